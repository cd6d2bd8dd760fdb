"""The LSTM's arithmetic in a tile."""

from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.normalization import gradient, normalize, scaled, whiten
from bnrnn.ops._triton.preactivation import preactivation, preactivation_again, preactivation_gradient
from bnrnn.ops._triton.structures import AFTER, WRITE
from bnrnn.ops._triton.tile import (
    add_to_feature,
    columns,
    join4,
    load,
    load_row,
    of_units,
    plus,
    share_kept,
    split4,
    store,
    store_row,
    tanh,
)  # fmt: skip


@triton.jit
def forward(values, tile, STAGE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr):
    """``o tanh(N_c(c))``; the new cell state is written."""
    cols = of_units(tile)
    i, f, g, o = split4(preactivation(values, tile, columns(tile, 4, 0, 4, UNITS), STAGE, ACC), ROWS, UNITS)
    c_old = load(values.cells, tile.before, tile, cols, ACC)
    c = tl.sigmoid(f) * c_old + tl.sigmoid(i) * tanh(g)
    y = plus(normalize(c, values.sites.cell, tile, cols, AFTER, STAGE), values.beta, cols)
    if values.zoneout_c is not None:
        c += share_kept(values.zoneout_c, tile, cols, values.c_varies, ACC) * (c_old - c)
    if STAGE >= WRITE:
        store(values.cells, tile.after, tile, cols, c)
    return tl.sigmoid(o) * tanh(y), c


@triton.jit
def backward(dh, values, grads, tile, STAGE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr):
    """From the gradient of ``o tanh(N_c(c))`` and that of c to those of the products and of c before."""
    cols = of_units(tile)
    gates = columns(tile, 4, 0, 4, UNITS)
    z, parts = preactivation_again(values, tile, gates, ACC)
    i, f, g, o = split4(z, ROWS, UNITS)
    i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), tanh(g), tl.sigmoid(o)
    c_old = load(values.cells, tile.before, tile, cols, ACC)
    white, rstd = whiten(f * c_old + i * g, values.sites.cell, tile, cols)
    y = tanh(plus(scaled(white, values.sites.cell, cols), values.beta, cols))

    dy = dh * o * (1.0 - y * y)
    if grads.beta is not None and STAGE >= WRITE:
        add_to_feature(grads.beta, tile, cols, tl.sum(dy, 0))
    dc = load_row(grads.c, tile, cols, ACC)
    kept = tl.zeros_like(dc)
    if values.zoneout_c is not None:
        kept = dc * share_kept(values.zoneout_c, tile, cols, values.c_varies, ACC)
        dc -= kept
    dc += gradient(dy, white, rstd, values.sites.cell, tile, cols, AFTER, STAGE)
    if STAGE >= WRITE:
        store_row(grads.c, tile, cols, dc * f + kept, tile.valid)
    dz = join4(dc * g * i * (1.0 - i), dc * c_old * f * (1.0 - f), dc * i * (1.0 - g * g),
               dh * y * o * (1.0 - o), ROWS, UNITS)  # fmt: skip
    preactivation_gradient(tl.where(tile.valid, dz, 0.0), parts, values, grads, tile, gates, STAGE)
