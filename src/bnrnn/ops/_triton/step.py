"""The kernels of one step, for every cell: the state in and out, and between them the cell's own arithmetic."""

# pyright: reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.structures import AFTER, ALL, GRU, LSTM, OWN, PRODUCTS, RELU, SUM, WRITE, Shape
from bnrnn.ops._triton.tile import load, load_row, of_units, share_kept, store, store_row, tile_at
from bnrnn.ops.gru import triton as gru
from bnrnn.ops.lstm import triton as lstm
from bnrnn.ops.rnn import triton as rnn


@triton.jit
def ends(values, tile):
    """The rows of which this step is the last."""
    if values.rows is None:
        return tile.valid & tile.last
    else:
        return tile.valid & (tile.row >= tl.load(values.rows + tile.t + 1))


@triton.jit
def write_state(h, values, results, tile, ACC: tl.constexpr):
    """The new state: zoned out, to the outputs, and as the next step's operand."""
    cols = of_units(tile)
    if values.zoneout_h is not None:
        old = load(values.states, tile.before, tile, cols, ACC)
        h += share_kept(values.zoneout_h, tile, cols, values.h_varies, ACC) * (old - h)
    store(results.output, tile.t, tile, cols, h)
    store_row(results.h_n, tile, cols, h, ends(values, tile))
    if results.states is not None:
        store(results.states, tile.after, tile, cols, h)
    if values.mask is not None:
        h *= load_row(values.mask, tile, cols, ACC)
    store(results.operand, tile.after, tile, cols, h)


@triton.jit
def state_gradient(values, grads, tile, ACC: tl.constexpr):
    """The gradient of the state before zoneout, and that of the old state which zoneout has kept."""
    cols = of_units(tile)
    dh = load_row(grads.product, tile, cols, ACC)
    if values.mask is not None:
        dh *= load_row(values.mask, tile, cols, ACC)
    dh += load_row(grads.h, tile, cols, ACC)
    if grads.output is not None:
        dh += load(grads.output, tile.t, tile, cols, ACC)
    kept = tl.zeros_like(dh)
    if values.zoneout_h is not None:
        kept = dh * share_kept(values.zoneout_h, tile, cols, values.h_varies, ACC)
    return dh - kept, kept


@triton.jit
def passage(
    values, results, tile, STAGE: tl.constexpr, CELL: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """A tile's step, as far as ``STAGE`` has to come."""
    cols = of_units(tile)
    if CELL == LSTM:
        h, c = lstm.forward(values, tile, STAGE, ROWS, UNITS, ACC)
        if STAGE >= WRITE:
            store_row(results.c_n, tile, cols, c, ends(values, tile))
    elif CELL == GRU:
        h = gru.forward(values, tile, STAGE, ROWS, UNITS, ACC)
    else:
        h = rnn.forward(values, tile, CELL == RELU, STAGE, ACC)
    if STAGE >= WRITE:
        if results.inner is None:
            write_state(h, values, results, tile, ACC)
        else:
            store(results.inner, tile.products, tile, cols, h)


@triton.jit
def advance(
    values, results, shape, t, CELL: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, TILED: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """One step after its product, for a program's block of units and block of rows; ``TILED``: for all rows, tile by
    tile, since they are more than a program holds and statistics are taken of all.
    """
    first_unit = tl.program_id(0) * UNITS
    if TILED:
        for STAGE in tl.static_range(3):
            if merges(values, STAGE, CELL):
                for first_row in range(0, counted(values, t, shape), ROWS):
                    tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
                    passage(values, results, tile, STAGE, CELL, ROWS, UNITS, ACC)
                    tl.debug_barrier()  # what a tile has written down the next one reads
        for first_row in range(0, shape.batch, ROWS):
            tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
            passage(values, results, tile, WRITE, CELL, ROWS, UNITS, ACC)
    else:
        tile = tile_at(values.rows, t, shape, 0, tl.program_id(1) * ROWS, first_unit, ROWS, UNITS)
        passage(values, results, tile, ALL, CELL, ROWS, UNITS, ACC)


@triton.jit
def merges(values, STAGE: tl.constexpr, CELL: tl.constexpr):
    """Whether a passage has statistics to merge."""
    if STAGE == PRODUCTS:
        return values.sites.input.kind == OWN or values.sites.recurrent.kind == OWN
    elif STAGE == SUM:
        return values.sites.summed.kind == OWN
    elif CELL == GRU:
        return values.sites.summed.kind == OWN
    else:
        return values.sites.cell.kind == OWN


@triton.jit
def counted(values, t, shape):
    """The rows that statistics are taken of; one at least, so that a step without rows borrows some."""
    if values.rows is None:
        return shape.batch
    else:
        return tl.maximum(tl.load(values.rows + t), 1)


@triton.jit
def passage_back(
    values, grads, tile, STAGE: tl.constexpr, CELL: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """A tile's step back, as far as ``STAGE`` has to come."""
    cols = of_units(tile)
    if grads.inner is None:
        dh, kept = state_gradient(values, grads, tile, ACC)
    else:
        dh = load_row(grads.inner, tile, cols, ACC)
    if CELL == LSTM:
        lstm.backward(dh, values, grads, tile, STAGE, ROWS, UNITS, ACC)
    elif CELL == GRU:
        kept += gru.backward(dh, values, grads, tile, STAGE, ROWS, UNITS, ACC)
    else:
        rnn.backward(dh, values, grads, tile, CELL == RELU, STAGE, ACC)
    if grads.inner is None and STAGE >= WRITE:
        store_row(grads.h, tile, cols, kept, tile.valid)


@triton.jit
def retreat(
    values, grads, shape, t, features, CELL: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    TILED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One step back, from the gradient of its state to those of its products.

    ``features`` is how many numbers there are in a row block's part of the features' gradients.
    """
    first_unit = tl.program_id(0) * UNITS
    if TILED:
        for i in tl.static_range(3):
            if merges(values, AFTER - i, CELL):
                for first_row in range(0, counted(values, t, shape), ROWS):
                    tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
                    passage_back(values, grads, tile, AFTER - i, CELL, ROWS, UNITS, ACC)
                    tl.debug_barrier()
        for first_row in range(0, shape.batch, ROWS):
            tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
            passage_back(values, grads, tile, WRITE, CELL, ROWS, UNITS, ACC)
            tl.debug_barrier()
    else:
        block = tl.program_id(1)
        tile = tile_at(values.rows, t, shape, block * features, block * ROWS, first_unit, ROWS, UNITS)
        passage_back(values, grads, tile, ALL, CELL, ROWS, UNITS, ACC)


@triton.jit(do_not_specialize=["t", "steps", "product_steps", "input_steps", "state_steps"])
def forward(
    values, results, t, steps, product_steps, input_steps, state_steps, batch, units, CELL: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, TILED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    advance(values, results, shape, t, CELL, ROWS, UNITS, TILED, ACC)


@triton.jit(do_not_specialize=["t", "steps", "product_steps", "input_steps", "state_steps"])
def backward(
    values, grads, t, steps, product_steps, input_steps, state_steps, batch, units, features, CELL: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, TILED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    retreat(values, grads, shape, t, features, CELL, ROWS, UNITS, TILED, ACC)


@triton.jit(do_not_specialize=["t", "steps", "product_steps", "input_steps", "state_steps"])
def project_forward(
    values, results, projected, t, steps, product_steps, input_steps, state_steps, batch, units, ROWS: tl.constexpr,
    UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The new state from what the projection gives; ``units`` are its outputs."""
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    first_row, first_unit = tl.program_id(1) * ROWS, tl.program_id(0) * UNITS
    tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
    write_state(load_row(projected, tile, of_units(tile), ACC), values, results, tile, ACC)


@triton.jit(do_not_specialize=["t", "steps", "product_steps", "input_steps", "state_steps"])
def project_backward(
    values, grads, t, steps, product_steps, input_steps, state_steps, batch, units, ROWS: tl.constexpr,
    UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of what the projection gives."""
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    first_row, first_unit = tl.program_id(1) * ROWS, tl.program_id(0) * UNITS
    tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
    cols = of_units(tile)
    dh, kept = state_gradient(values, grads, tile, ACC)
    store(grads.projected, tile.inputs, tile, cols, dh)
    store_row(grads.h, tile, cols, kept, tile.valid)
