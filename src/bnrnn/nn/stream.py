"""A layer in evaluation, one time step a call, without a layer's cost a call."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrnn.nn import eager_step
from bnrnn.nn.affine import affine
from bnrnn.nn.arguments import check_input, check_start_step, check_state, check_tokens
from bnrnn.nn.norm import LayerNorm
from bnrnn.nn.norm.site import warn_if_unset
from bnrnn.nn.parameters import RecurrentParameters
from bnrnn.nn.sequences import State
from bnrnn.ops import step as kernel


class Stream:
    """A layer in ``eval()`` that reads a sequence one time step a call and carries its state itself.

    With population statistics a normalization is a scale and a shift that are known beforehand, so they are laid out
    once, a row for each time step in use, and the shifts join the bias. The numbers are those of calling the layer with
    a sequence of one step, its state and ``start_step``. A layer-normalized layer has nothing to lay out, and it, like
    one with ``backend="reference"``, is called each time.

    The layer's parameters and statistics must not change while the stream is in use. Nothing is differentiated.

    Args:
        layer: a unidirectional :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN` in ``eval()``.
        hx: the state to start from, as in the layer's call; None for zeros.
        start_step: the time step that the first call stands for.

    Call:
        ``output = stream(x)`` with x ``(B, I)``, or integers ``(B,)`` that stand for one-hot rows, gives the last
        layer's output ``(B, R)``.

    Attributes:
        step: the time step of the next call. It may be set.

    Raises:
        ValueError: the layer is bidirectional; the step is negative; ``x`` has another shape.
        RuntimeError: the layer is in training or under :func:`bnrnn.batch_statistics`.
    """

    def __init__(self, layer: RecurrentParameters, hx: Any = None, start_step: int = 0) -> None:
        if layer.bidirectional:
            raise ValueError("layer: a bidirectional layer cannot be streamed, it reads sequences from both ends")
        if layer.training:
            raise RuntimeError("layer: a stream uses population statistics; call layer.eval() first")
        if any(site.takes_batch_statistics for site in layer._all_sites):
            raise RuntimeError("layer: a stream uses population statistics, and this layer now takes its batch's own")
        warn_if_unset(layer._all_sites)
        self._layer = layer
        self.step = start_step
        self._hx = hx
        self._laid_out: list[_LaidOut] | None = None
        self._states: list[State] = []
        self._seen: Any = None  # the input that has been checked: shape and dtype
        if layer.backend != "reference" and not any(isinstance(n.spec, LayerNorm) for n in layer._all_sites):
            with torch.no_grad():
                self._laid_out = [_LaidOut(layer, f"_l{index}") for index in range(layer.num_layers)]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        if self._laid_out is None:
            return self._call_layer(x)
        if (x.shape, x.dtype) != self._seen:
            self._states = list(zip(*(s.unbind(0) for s in self._check(x)), strict=True))
            self._seen = x.shape, x.dtype
        for index, laid_out in enumerate(self._laid_out):
            state = laid_out(x, self._states[index], self._step)
            self._states[index] = state
            x = state[0]
        self._step += 1
        return x

    def _call_layer(self, x: Tensor) -> Tensor:
        self._check(x)
        time = 1 if self._layer.batch_first else 0
        output, self._hx = self._layer(x.unsqueeze(time), self._hx, start_step=self._step)
        self._step += 1
        return output.squeeze(time)

    def _check(self, x: Tensor) -> State:
        """The state so far, or the one to start from, if it fits the step's input."""
        check_input(self._layer, x, dims=2)
        check_tokens(x, self._layer.input_size)
        hx = self.state
        return check_state(self._layer, x, hx if hx is None or isinstance(hx, tuple) else (hx,), x.shape[0])

    @property
    def step(self) -> int:
        return self._step

    @step.setter
    def step(self, value: int) -> None:
        self._step = check_start_step(value, bidirectional=False)

    @property
    def state(self) -> Any:
        """The state so far, as the layer returns it; what was given before the first call."""
        if not self._states:
            return self._hx
        stacked = tuple(torch.stack(s) for s in zip(*self._states, strict=True))
        return stacked if self._layer._cell.has_cell else stacked[0]


class _LaidOut:
    """One layer: its weights, and a table of scales and shifts with a row for each step."""

    def __init__(self, layer: RecurrentParameters, suffix: str) -> None:
        norms = layer._sites(suffix)
        weight_ih, weight_hh = (getattr(layer, name + suffix).detach() for name in ("weight_ih", "weight_hh"))
        scale_x, shift_x = affine(norms.get("input"))
        scale_h, shift_h = affine(norms.get("recurrent"))
        scale_s, shift_s = affine(norms.get("summed"))
        if scale_s is not None:
            scale_x = scale_h = scale_s
        bias, bias_hn = layer._biases(suffix)
        if bias_hn is not None:  # a GRU's, inside the product with the reset gate
            inside = F.pad(bias_hn, (2 * layer.hidden_size, 0))
            shift_h = _sum(shift_h, inside if scale_s is None else inside * scale_s)
        columns = [scale_x, _sum(shift_x, shift_s, bias), scale_h, shift_h, *affine(norms.get("cell"))]
        steps = max((len(c) for c in columns if c is not None), default=1)
        self._last = steps - 1
        name, weight_hr = layer._cell.name, layer._parameter("weight_hr", suffix)
        if kernel.unsupported(weight_ih) is None:
            table = _table(columns, steps, weight_hh, layer.hidden_size)
            self._step = kernel.lay_out(name, weight_ih, weight_hh, weight_hr, table, layer._zoneout)
        else:
            self._step = eager_step.lay_out(name, weight_ih, weight_hh, weight_hr, columns, layer._zoneout)

    def __call__(self, x: Tensor, state: State, step: int) -> State:
        return self._step(x, state, min(step, self._last))


def _sum(*terms: Tensor | None) -> Tensor | None:
    present = [t if t.dim() == 2 else t.unsqueeze(0) for t in terms if t is not None]
    return sum(present[1:], present[0]) if present else None


def _table(columns: list[Tensor | None], steps: int, weight_hh: Tensor, units: int) -> Tensor:
    """The columns as one tensor: a shorter one goes on with its last row, a missing one is scales of 1, shifts of 0."""
    width = weight_hh.shape[0]
    filled = []
    for index, (column, size) in enumerate(zip(columns, (width, width, width, width, units, units), strict=True)):
        if column is None:
            column = weight_hh.new_full((1, size), float(index % 2 == 0))
        filled.append(torch.cat((column, column[-1:].expand(steps - len(column), size))))
    return torch.cat(filled, 1)
