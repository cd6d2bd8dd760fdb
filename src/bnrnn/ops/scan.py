"""The loop over time that all reference recurrences share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = tuple[Tensor, ...]


def input_product(x: Tensor, weight_ih: Tensor) -> Tensor:
    """``W_ih x_t`` for all steps in one product; integers are one-hot indices, their product a look-up."""
    if x.is_floating_point():
        return F.linear(x, weight_ih)
    return F.embedding(x, weight_ih.t())


def recurrent_product(h: Tensor, mask: Tensor | None, weight_hh: Tensor) -> Tensor:
    """``W_hh (m * h)`` in the weight's precision, returned in that of ``h``."""
    masked = h if mask is None else h * mask[: h.shape[0]]
    return F.linear(masked.to(weight_hh.dtype), weight_hh).to(h.dtype)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Statistics, gate arithmetic and cell states never have less than float32."""
    return torch.promote_types(dtype, torch.float32)


def zoneout(z: Tensor | None, t: int, old: Tensor, new: Tensor) -> Tensor:
    """``z * old + (1 - z) * new`` with the step's mask or, as a scalar, its expectation (Krueger et al. 2017)."""
    if z is None or not new.shape[0]:
        return new
    z_t = z if z.dim() == 0 else z.select(0, t)[: new.shape[0]]
    return new + z_t.to(new.dtype) * (old - new)


def scan(
    step: Callable[[int, Tensor, State], State],
    wx: Tensor,
    state: State,
    batch_sizes: Tensor | None,
    common_steps: int = 0,
) -> tuple[Tensor, State]:
    """Carry ``state`` through ``step`` over the valid rows of each time step.

    Args:
        step: maps ``(t, wx_t, state)``, cut to the valid rows, to the new state; its first tensor is the output.
        wx: ``(T, B, n)``. It is unbound once: indexing it in the loop would make the backward pass quadratic in T.
        state: tensors ``(B, ...)``.
        batch_sizes: valid rows at each step, non-increasing; None for all.
        common_steps: steps that other processes go through with this one, as many as there are or more: there ``step``
            is called without a row as well.

    Returns:
        Outputs ``(T, B, ...)``, zero where not valid, and the state of each row after its own last valid step.
    """
    steps, batch = wx.shape[:2]
    rows = [batch] * steps if batch_sizes is None else batch_sizes.tolist()
    outputs = []
    for t, (wx_t, n) in enumerate(zip(wx.unbind(0), rows, strict=True)):
        if n == batch:
            state = step(t, wx_t, state)
            outputs.append(state[0])
        elif n > 0:
            new = step(t, wx_t[:n], tuple(s[:n] for s in state))
            state = tuple(torch.cat((a, s[n:])) for a, s in zip(new, state, strict=True))
            outputs.append(F.pad(new[0], (0, 0, 0, batch - n)))
        else:
            if t < common_steps:
                step(t, wx_t[:0], tuple(s[:0] for s in state))
            outputs.append(torch.zeros_like(state[0]))
    no_rows = wx.new_empty(0, wx.shape[2])
    for t in range(steps, common_steps):
        step(t, no_rows, tuple(s[:0] for s in state))
    return torch.stack(outputs), state
