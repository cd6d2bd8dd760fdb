"""The rows, units and columns of one program at one step, where they lie, and the activations."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Tile(NamedTuple):
    """Rows times units.

    Attributes:
        t: the step.
        products, inputs, before, after: its places in the slabs of products, of what is there for some steps only, and
            of states, whose next one is its result.
        last: whether it is the last step.
        batch, count: B, and how many of its rows are valid.
        first_row: the first of the tile; row: ``[rows, 1]``, 64 bits; present, valid: the same, whether there is such a
            row, and a valid one.
        units: H; first, unit, exists: the first of the tile, ``[units]``, whether there is such a unit.
        block: where this program's part of the features' gradients begins.
    """

    t: Any
    products: Any
    inputs: Any
    before: Any
    after: Any
    last: Any
    batch: Any
    count: Any
    first_row: Any
    row: Any
    present: Any
    valid: Any
    units: Any
    first: Any
    unit: Any
    exists: Any
    block: Any


class Columns(NamedTuple):
    """Successive gates of the tile's units, gates innermost.

    Attributes:
        place: in a row of products.
        feature: in a vector of one number a feature.
        exists: whether there is such a unit.
        width: features of all gates, the length of a row and of such a vector.
        count: features of these gates.
    """

    place: Any
    feature: Any
    exists: Any
    width: Any
    count: Any


@triton.jit
def tile_at(rows, t, shape, block, first_row, first_unit, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """``rows``: valid rows at each step, or None; ``shape``: a :class:`~bnrnn.ops._triton.structures.Shape`."""
    steps, product_steps, input_steps, state_steps, batch, units = shape
    row = first_row + tl.arange(0, ROWS)[:, None]
    unit = first_unit + tl.arange(0, UNITS)
    if rows is None:
        count = batch
    else:
        count = tl.load(rows + t)
    return Tile(
        t, t % product_steps, t % input_steps, t % state_steps, (t + 1) % state_steps, t + 1 == steps, batch, count,
        first_row, row.to(tl.int64), row < batch, row < count, units, first_unit, unit, unit < units, block,
    )  # fmt: skip


@triton.jit
def columns(tile, GATES: tl.constexpr, FROM: tl.constexpr, COUNT: tl.constexpr, UNITS: tl.constexpr):
    """Of the gates ``FROM`` to ``FROM + COUNT``, a power of two."""
    k = tl.arange(0, COUNT * UNITS)
    unit = tile.first + k // COUNT
    gate = FROM + k % COUNT
    exists = unit < tile.units
    return Columns(unit * GATES + gate, gate * tile.units + unit, exists, GATES * tile.units, COUNT * tile.units)


@triton.jit
def of_units(tile):
    """One column for each unit."""
    return Columns(tile.unit, tile.unit, tile.exists, tile.units, tile.units)


@triton.jit
def places(base, step, tile, cols):
    """Where the tile lies in a slab's step: offsets of whole slabs need 64 bits."""
    return base + step.to(tl.int64) * tile.batch * cols.width + tile.row * cols.width + cols.place[None, :]


@triton.jit
def load(base, step, tile, cols, ACC: tl.constexpr):
    """The valid rows of a step; 0 elsewhere."""
    return tl.load(places(base, step, tile, cols), mask=tile.valid & cols.exists[None, :], other=0.0).to(ACC)


@triton.jit
def store(base, step, tile, cols, value):
    """All rows of a step: 0 where they are not valid."""
    value = tl.where(tile.valid, value, 0.0).to(base.dtype.element_ty)
    tl.store(places(base, step, tile, cols), value, mask=tile.present & cols.exists[None, :])


@triton.jit
def load_row(base, tile, cols, ACC: tl.constexpr):
    """The valid rows of what is there once for all steps."""
    at = base + tile.row * cols.width + cols.place[None, :]
    return tl.load(at, mask=tile.valid & cols.exists[None, :], other=0.0).to(ACC)


@triton.jit
def store_row(base, tile, cols, value, where):
    at = base + tile.row * cols.width + cols.place[None, :]
    tl.store(at, value.to(base.dtype.element_ty), mask=where & cols.exists[None, :])


@triton.jit
def feature(base, cols, ACC: tl.constexpr):
    return tl.load(base + cols.feature, mask=cols.exists, other=0.0).to(ACC)


@triton.jit
def add_to_feature(base, tile, cols, value):
    """Add to the part of a gradient that is this program's own."""
    at = base + tile.block + cols.feature
    tl.store(at, tl.load(at, mask=cols.exists, other=0.0) + value, mask=cols.exists)


@triton.jit
def plus(x, offset, cols):
    """``offset``: a vector of one number a feature, or None."""
    if offset is None:
        return x
    else:
        return x + feature(offset, cols, x.dtype)[None, :]


@triton.jit
def share_kept(zoneout, tile, cols, VARIES: tl.constexpr, ACC: tl.constexpr):
    """The share of the old state that zoneout keeps: the step's mask, or its expectation."""
    if VARIES:
        return load(zoneout, tile.t, tile, cols, ACC)
    else:
        return tl.load(zoneout).to(ACC)


@triton.jit
def tanh(x):
    """Triton's own is a library's, which its interpreter lacks; by exp alone a small x would lose its digits."""
    a = tl.abs(x)
    e = tl.exp(-2.0 * a)
    small = tl.minimum(a, 0.15)
    square = small * small
    series = -17 / 315 + square * (62 / 2835 + square * (-1382 / 155925))
    series = 1.0 + square * (-1 / 3 + square * (2 / 15 + square * series))
    y = tl.where(a < 0.15, small * series, (1.0 - e) / (1.0 + e))
    return tl.where(x < 0, -y, y)


@triton.jit
def split2(x, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """Columns of two gates as a tile of units each."""
    return tl.split(tl.reshape(x, (ROWS, UNITS, 2)))


@triton.jit
def join2(first, second, ROWS: tl.constexpr, UNITS: tl.constexpr):
    return tl.reshape(tl.join(first, second), (ROWS, 2 * UNITS))


@triton.jit
def split4(x, ROWS: tl.constexpr, UNITS: tl.constexpr):
    even, odd = tl.split(tl.reshape(x, (ROWS, UNITS, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def join4(first, second, third, fourth, ROWS: tl.constexpr, UNITS: tl.constexpr):
    return tl.reshape(tl.join(tl.join(first, third), tl.join(second, fourth)), (ROWS, 4 * UNITS))
