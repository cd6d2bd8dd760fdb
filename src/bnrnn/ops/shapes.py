"""Shapes of the operators' results, for tensors without data.

What a forward pass keeps for its backward pass belongs to a device's kernels alone, and so does its size: here it
mirrors ``Plan`` and ``Slabs`` of csrc/plan.h, and tests/ops/compiled_kernels.py compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bnrnn.ops import layout, loading
from bnrnn.ops._triton import availability, plan
from bnrnn.ops.cells import Cell
from bnrnn.ops.layout import KindNumber


def full(weight: Tensor, *shape: int) -> Tensor:
    """What is no operand of a product: states, statistics and biases, which have at least float32."""
    return weight.new_empty(shape, dtype=torch.promote_types(weight.dtype, torch.float32))


def states(cell: Cell, x: Tensor, weight_hh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, h_n, and c_n, which has no rows for a cell without c_t."""
    steps, batch = x.shape[:2]
    rows, output = weight_hh.shape
    return (
        weight_hh.new_empty(steps, batch, output),
        full(weight_hh, batch, output),
        full(weight_hh, batch if cell.has_cell else 0, rows // cell.gates),
    )


def statistics(cell: Cell, x: Tensor, weight_hh: Tensor, numbers: Sequence[int]) -> Tensor:
    return full(weight_hh, layout.statistics_size(numbers, cell, x.shape[0], weight_hh.shape[0] // cell.gates))


def gradients(
    cell: Cell, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor | None, need_x: bool
) -> tuple[Tensor, ...]:
    """Of x, h_0, c_0, W_ih, W_hh, the biases together, the projection and the sites' tensors together."""
    steps, batch = x.shape[:2]
    rows, output = weight_hh.shape
    units = rows // cell.gates
    new = weight_hh.new_empty
    return (
        new(steps if need_x else 0, batch, weight_ih.shape[1]),
        full(weight_hh, batch, output),
        full(weight_hh, batch if cell.has_cell else 0, units),
        new(weight_ih.shape),
        new(weight_hh.shape),
        full(weight_hh, (cell.gates + cell.has_reset) * units),
        new(0) if weight_hr is None else new(weight_hr.shape),
        full(weight_hh, (3 * cell.gates + 2) * units),  # all gains, and the cell's offset
    )


def _kept_on_cpu(
    cell: Cell, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor | None, numbers: Sequence[int],
    mask: Tensor | None, zoneout_h: Tensor | None, bfloat16: bool,
) -> int:  # fmt: skip
    if loading.why_not() is not None:
        return 0
    steps, batch = x.shape[:2]
    units, outputs, itemsize = weight_hh.shape[0] // cell.gates, weight_hh.shape[1], weight_hh.dtype.itemsize
    lanes = loading.vector_bytes() // itemsize

    def padded_to_lanes(count: int) -> int:
        return (count + lanes - 1) // lanes * lanes

    def stride(count: int) -> int:
        padded = padded_to_lanes(count)
        return padded + lanes if padded * itemsize % 2048 == 0 else padded

    padded = padded_to_lanes(units)
    sites = layout.layouts(numbers)
    input, recurrent = sites[:2]
    separate = cell.has_reset or input.normalizes or recurrent.normalizes
    sequence = input.kind == KindNumber.SEQUENCE and input.own_statistics
    wide = x.is_floating_point() and weight_ih.shape[1] > 32
    keep_input = separate and (wide or sequence or input.is_layer)
    raw_state = (mask is not None or bfloat16) and (cell.has_reset or zoneout_h is not None)
    states = (steps + 1) * batch * stride(outputs) * (2 if raw_state else 1)
    unprojected = 0 if weight_hr is None else steps * batch * stride(units)
    cells = (steps + 1) * batch * padded if cell.has_cell else 0
    products = steps * batch * cell.gates * padded * (2 if keep_input else 1)
    ranges = (*[len(cell.groups)] * 3, 1)
    slots = sum(n for n, site in zip(ranges, sites, strict=True) if site.is_layer)
    return states + unprojected + cells + products + 2 * slots * steps * batch


KEPT: dict[str, Callable[..., int]] = {"cpu": _kept_on_cpu, availability.DEVICE: plan.kept}
"""By device, how many numbers its kernels keep; the reference, everywhere else, keeps none."""


def kept(
    cell: Cell, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor | None, numbers: Sequence[int],
    mask: Tensor | None, zoneout_h: Tensor | None, bfloat16: bool,
) -> Tensor:  # fmt: skip
    """What the backward pass needs of the forward pass."""
    size = KEPT.get(weight_hh.device.type)
    arguments = (cell, x, weight_ih, weight_hh, weight_hr, numbers, mask, zoneout_h, bfloat16)
    return full(weight_hh, 0 if size is None or x.shape[1] == 0 else size(*arguments))
