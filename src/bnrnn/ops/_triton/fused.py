"""The kernels that do the recurrent product themselves: of one step, or of many, between which their programs meet.

A step is that of ``step.py``: what comes before it here writes this program's columns of the product to where the
vendor's library would have.
"""

# pyright: reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.barrier import meet
from bnrnn.ops._triton.product import add_product, gate_columns, rows_of
from bnrnn.ops._triton.step import advance, retreat
from bnrnn.ops._triton.structures import Shape
from bnrnn.ops._triton.tile import load, of_units, store, store_row, tile_at


@triton.jit
def write_product(
    values, results, shape, weight, held, t, GATES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The program's columns of ``W_hh h``. ``weight``: ``W_hh``, ``(H, G, H)``; ``held``: its rows here, or None."""
    first_row, first_unit = tl.program_id(1) * ROWS, tl.program_id(0) * UNITS
    tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
    cols = gate_columns(tile, GATES, UNITS)
    if values.inputs is None:
        total = load(values.products, tile.products, tile, cols, ACC)
    else:
        total = tl.zeros([ROWS, cols.place.shape[0]], ACC)
    total = add_product(
        total, results.operand, weight, held, tile.before, tile.units, tile, cols, BLOCK, PRECISION, UPCAST
    )
    store(values.products, tile.products, tile, cols, total)
    tl.debug_barrier()  # it is read by other threads of the program


@triton.jit
def write_product_back(
    values, grads, shape, weight, held, t, GATES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The program's columns of the gradient of h, from those of the products of the step after, still in their slab.

    ``weight``: ``W_hh`` transposed, ``(H, H, G)``; ``held``: its rows here, or None.
    """
    first_row, first_unit = tl.program_id(1) * ROWS, tl.program_id(0) * UNITS
    tile = tile_at(values.rows, t, shape, 0, first_row, first_unit, ROWS, UNITS)
    if not tile.last:
        cols = of_units(tile)
        total = add_product(
            tl.zeros([ROWS, UNITS], ACC), grads.products, weight, held, (t + 1) % shape.input_steps,
            GATES * tile.units, tile, cols, BLOCK, PRECISION, UPCAST,
        )  # fmt: skip
        store_row(grads.product, tile, cols, total, tile.present)
        tl.debug_barrier()  # it is read by other threads of the program


@triton.jit(do_not_specialize=["t", "steps", "product_steps", "input_steps", "state_steps"])
def dot_forward(
    values, results, weight, t, steps, product_steps, input_steps, state_steps, batch, units,
    CELL: tl.constexpr, GATES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One step."""
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    write_product(values, results, shape, weight, None, t, GATES, BLOCK, PRECISION, UPCAST, ROWS, UNITS, ACC)
    advance(values, results, shape, t, CELL, ROWS, UNITS, False, ACC)


@triton.jit(do_not_specialize=["t", "steps", "product_steps", "input_steps", "state_steps"])
def dot_backward(
    values, grads, weight, t, steps, product_steps, input_steps, state_steps, batch, units, features,
    CELL: tl.constexpr, GATES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One step back."""
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    write_product_back(values, grads, shape, weight, None, t, GATES, BLOCK, PRECISION, UPCAST, ROWS, UNITS, ACC)
    retreat(values, grads, shape, t, features, CELL, ROWS, UNITS, False, ACC)


@triton.jit(do_not_specialize=["start", "stop", "steps", "product_steps", "input_steps", "state_steps"])
def scan_forward(
    values, results, weight, counter, start, stop, steps, product_steps, input_steps, state_steps, batch, units,
    HOLD: tl.constexpr, MEET: tl.constexpr,
    CELL: tl.constexpr, GATES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Steps ``start`` to ``stop``: more than one only with ``MEET``, and a cooperative launch.

    ``counter``: of meetings, 0 before the first step of all.
    """
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    held = None
    if HOLD:
        tile = tile_at(values.rows, start, shape, 0, 0, tl.program_id(0) * UNITS, ROWS, UNITS)
        held = rows_of(weight, 0, tile.units, gate_columns(tile, GATES, UNITS), BLOCK)
    for i in range(stop - start):
        t = start + i
        write_product(values, results, shape, weight, held, t, GATES, BLOCK, PRECISION, UPCAST, ROWS, UNITS, ACC)
        advance(values, results, shape, t, CELL, ROWS, UNITS, False, ACC)
        if MEET:
            meet(counter, (t + 1) * tl.num_programs(0) * tl.num_programs(1))


@triton.jit(do_not_specialize=["start", "stop", "steps", "product_steps", "input_steps", "state_steps"])
def scan_backward(
    values, grads, weight, counter, start, stop, steps, product_steps, input_steps, state_steps, batch, units,
    features,
    HOLD: tl.constexpr, MEET: tl.constexpr,
    CELL: tl.constexpr, GATES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Steps ``stop - 1`` down to ``start``, as :func:`scan_forward`."""
    shape = Shape(steps, product_steps, input_steps, state_steps, batch, units)
    held = None
    if HOLD:
        tile = tile_at(values.rows, start, shape, 0, 0, tl.program_id(0) * UNITS, ROWS, UNITS)
        held = rows_of(weight, 0, GATES * tile.units, of_units(tile), BLOCK)
    for i in range(stop - start):
        t = stop - 1 - i
        write_product_back(values, grads, shape, weight, held, t, GATES, BLOCK, PRECISION, UPCAST, ROWS, UNITS, ACC)
        retreat(values, grads, shape, t, features, CELL, ROWS, UNITS, False, ACC)
        if MEET:
            meet(counter, (shape.steps - t) * tl.num_programs(0) * tl.num_programs(1))
