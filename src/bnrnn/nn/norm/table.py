"""The table of a site's population statistics: how long it is, and whether a saved one fits.

A row holds what serves at its time step. ``count`` says how many batches entered it; a row without any holds the values
of the nearest earlier row that has some, else of the first that has, else mean 0 and variance 1. So whoever reads the
table takes a row as it is, and the last row serves for all later steps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from bnrnn.nn.norm.specification import BatchNorm
from bnrnn.nn.values import is_readable

ROOM = 64
"""Rows of a table to begin with, where ``max_steps`` does not say how many."""

_COUNTS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Table:
    """Population statistics: mean and variance ``(S, n)``, and the number of batches in each row ``(S,)``."""

    mean: Tensor
    var: Tensor
    count: Tensor


NAMES = tuple(field.name for field in fields(Table))


def room(spec: BatchNorm, rows: int) -> int:
    """The length of a table that has to hold so many rows: ``max_steps``, or the least doubling of 64."""
    if spec.statistics == "sequence":
        return 1
    if spec.max_steps is not None:
        return spec.max_steps
    length = ROOM
    while length < rows:
        length *= 2
    return length


def resized(table: Table, length: int) -> Table:
    """The table cut to ``length`` rows, or continued by its last row with counts of 0."""
    rows, missing = len(table.count), length - len(table.count)
    if missing <= 0:
        return Table(table.mean[:length], table.var[:length], table.count[:length])
    if rows == 0:
        size = table.mean.shape[1]
        mean, var = table.mean.new_zeros(length, size), table.var.new_ones(length, size)
    else:
        mean, var = (torch.cat((t, t[-1:].expand(missing, -1))) for t in (table.mean, table.var))
    return Table(mean, var, torch.cat((table.count, table.count.new_zeros(missing))))


def misfits(saved: dict[str, Any], own: Table, spec: BatchNorm, prefix: str, assign: bool) -> list[str]:
    """Why saved statistics cannot take the place of a site's own: nothing if they can.

    Args:
        saved: what there is of ``mean``, ``var`` and ``count``.
        own: the site's.
        spec: its normalization.
        prefix: of the names in messages.
        assign: whether the saved tensors themselves become the site's.
    """
    if missing := ", ".join(name for name in NAMES if name not in saved):
        return [f"{prefix}: mean, var and count belong together; missing: {missing}"]
    messages = []
    for name, value in saved.items():
        if not isinstance(value, Tensor):
            messages.append(f"{prefix}{name} must be a tensor, got {type(value).__name__}")
        elif value.layout != torch.strided or value.is_quantized or value.is_nested:
            messages.append(f"{prefix}{name} must be a dense tensor, got {value.dtype} of layout {value.layout}")
        elif not (value.dtype in _COUNTS if name == "count" else value.dtype.is_floating_point):
            messages.append(f"{prefix}{name} must be {'integers' if name == 'count' else 'real'}, got {value.dtype}")
    if messages:
        return messages
    one_row = spec.statistics == "sequence"
    rows = 1 if one_row else saved["mean"].shape[0] if saved["mean"].dim() else 0
    for name, value in saved.items():
        expected = (rows,) if name == "count" else (rows, own.mean.shape[1])
        if tuple(value.shape) != expected:
            messages.append(
                f"size mismatch for {prefix}{name}: the checkpoint has shape {tuple(value.shape)}, the model takes "
                f"{expected if one_row else ('steps', *expected[1:])}, as many steps for mean, var and count"
            )
        if value.is_meta and not (assign or own.count.is_meta):
            messages.append(f"{prefix}{name} is on meta and has no values")
    if len({value.device for value in saved.values()}) > 1:
        messages.append(f"{prefix}: mean, var and count are on different devices")
    if not messages and is_readable(saved["count"]) and bool((saved["count"] < 0).any()):
        messages.append(f"{prefix}count must not be negative")
    return messages


def prepared(saved: dict[str, Tensor]) -> Table:
    """Saved statistics that fit, as a kernel may write into them: dense rows, no less than float32, int64 counts."""
    precise = torch.promote_types(torch.promote_types(saved["mean"].dtype, saved["var"].dtype), torch.float32)
    dtypes = {"mean": precise, "var": precise, "count": torch.int64}
    return Table(**{name: saved[name].detach().to(dtype).contiguous() for name, dtype in dtypes.items()})
