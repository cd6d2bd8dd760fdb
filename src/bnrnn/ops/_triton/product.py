"""A recurrent product inside a kernel, in the place of a launch of the vendor's library."""

from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.tile import Columns


@triton.jit
def gate_columns(tile, GATES: tl.constexpr, UNITS: tl.constexpr):
    """All gates of the tile's units; of three gates there is a fourth that does not exist."""
    SLOTS: tl.constexpr = 4 if GATES == 3 else GATES  # type: ignore[assignment]
    k = tl.arange(0, SLOTS * UNITS)
    unit = tile.first + k // SLOTS
    gate = k % SLOTS
    exists = (unit < tile.units) & (gate < GATES)
    return Columns(unit * GATES + gate, gate * tile.units + unit, exists, GATES * tile.units, GATES * tile.units)


@triton.jit
def rows_of(weight, first, depth, cols, BLOCK: tl.constexpr):
    """``[BLOCK, columns]``: of the weight's row for each column, ``depth`` long, the numbers from ``first`` on."""
    k = first + tl.arange(0, BLOCK)
    at = weight + cols.place[None, :].to(tl.int64) * depth + k[:, None]
    return tl.load(at, mask=(k < depth)[:, None] & cols.exists[None, :], other=0.0)


@triton.jit
def add_product(
    total, x, weight, held, step, depth, tile, cols, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Add a slab's rows at a step, ``depth`` long, times the columns' rows of the weight.

    Args:
        held: these rows of the weight, where all of them fit, ``BLOCK >= depth``; else None.
        UPCAST: for the interpreter, which would multiply the bits of bfloat16.
    """
    rows = x + step.to(tl.int64) * tile.batch * depth + tile.row * depth
    for first in range(0, depth, BLOCK):
        k = first + tl.arange(0, BLOCK)
        a = tl.load(rows + k[None, :], mask=tile.present & (k < depth)[None, :], other=0.0)
        if held is None:
            b = rows_of(weight, first, depth, cols, BLOCK)
        else:
            b = held
        if UPCAST:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)
    return total
