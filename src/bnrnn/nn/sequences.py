"""Sequences of different lengths: sorted for the recurrence, padded, packed, reversed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]


class Array(Protocol):
    """A NumPy array or what can become one."""

    def __array__(self) -> Any: ...


Lengths: TypeAlias = "Tensor | Sequence[int] | Array"
"""The length of each sequence."""


class Valid(NamedTuple):
    """Which rows are valid at which step, the batch being sorted by decreasing length."""

    lengths: Tensor
    """``(B,)``, on the input's device."""
    batch_sizes: Tensor
    """Valid rows at each step ``(T,)``, on the CPU."""


def check_lengths(lengths: Lengths | None, x: Tensor, batched: bool) -> Tensor | None:
    """The lengths on the CPU, or None if no row of ``x``, time first, is shorter than the input.

    Raises:
        ValueError, TypeError: not one length for each sequence, from 1 to the input's steps.
    """
    if lengths is None:
        return None
    if not batched:
        raise ValueError("lengths: an unbatched input has one length, its own; got lengths beside one")
    given: Any = lengths
    if not isinstance(lengths, Tensor):
        if not (hasattr(lengths, "__array__") or (isinstance(lengths, Sequence) and not isinstance(lengths, str))):
            raise TypeError(f"lengths must be a tensor or a sequence of ints, got {type(lengths).__name__}")
        try:
            lengths = torch.tensor(given)
        except (TypeError, ValueError) as error:
            raise TypeError(f"lengths must be a tensor or a sequence of ints, got {given!r}") from error
    if (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool) and lengths.numel():
        raise TypeError(f"lengths must be integers, got {lengths.dtype}")
    steps, batch = x.shape[:2]
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), one for each sequence; got {tuple(lengths.shape)}")
    if batch == 0:
        return None
    lengths = lengths.detach().to("cpu", torch.int64)
    if torch.compiler.is_exporting():  # a graph has no way but one
        return lengths
    low, high = int(lengths.min()), int(lengths.max())
    if low < 1 or high > steps:
        raise ValueError(f"lengths must be from 1 to {steps}, the input's steps; got {low} to {high}")
    return None if low == steps else lengths


def sort(x: Tensor, state: State, lengths: Tensor) -> tuple[Tensor, State, Valid, Tensor]:
    """Input and state by decreasing length, with zeros for padding; which rows are valid; the way back."""
    in_order, order = lengths.sort(descending=True, stable=True)
    order, device_lengths = order.to(x.device), in_order.to(x.device)
    steps = torch.arange(x.shape[0])
    valid = Valid(device_lengths, (in_order > steps.unsqueeze(1)).sum(1))
    x = x.index_select(1, order)
    padding = steps.to(x.device).unsqueeze(1) >= device_lengths
    x = x.masked_fill(padding.unsqueeze(-1) if x.is_floating_point() else padding, 0)
    return x, permute(state, order), valid, order.argsort()


def permute(state: State, order: Tensor | None) -> State:
    """The rows of the states in another order."""
    return state if order is None else tuple(s.index_select(1, order) for s in state)


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """The padded input, time first, and its lengths on the CPU, by decreasing length as they are packed."""
    return pad_packed_sequence(PackedSequence(packed.data, packed.batch_sizes))


def pack(output: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """A padded output, by decreasing length, as the input was packed."""
    return PackedSequence(pack_padded_sequence(output, lengths).data, *like[1:])


def reverse(x: Tensor, valid: Valid | None) -> Tensor:
    """Each sequence backwards within its own length; its padding stays at the end."""
    if valid is None:
        return x.flip(0)
    t = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    index = torch.where(t < valid.lengths, valid.lengths - 1 - t, t)
    return x[index, torch.arange(x.shape[1], device=x.device)]
