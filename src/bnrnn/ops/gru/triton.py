"""The GRU's arithmetic in a tile."""

# pyright: reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.normalization import gradient, normalize, scaled, whiten
from bnrnn.ops._triton.preactivation import (
    Whitened,
    input_product,
    preactivation,
    preactivation_again,
    preactivation_gradient,
    product_gradients,
    recurrent_product,
)  # fmt: skip
from bnrnn.ops._triton.structures import AFTER, PRODUCTS, WRITE
from bnrnn.ops._triton.tile import (
    add_to_feature,
    columns,
    join2,
    load,
    of_units,
    plus,
    split2,
    tanh,
)  # fmt: skip


@triton.jit
def forward(values, tile, STAGE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr):
    """``n + z (h - n)`` with ``n = tanh(N_s(b^n + r (a^n + b_hn)) + b_n)``."""
    r, z = split2(preactivation(values, tile, columns(tile, 3, 0, 2, UNITS), STAGE, ACC), ROWS, UNITS)
    candidate, cols = columns(tile, 3, 2, 1, UNITS), of_units(tile)
    a = normalize(
        recurrent_product(values, tile, candidate, ACC), values.sites.recurrent, tile, candidate, PRODUCTS, STAGE
    )
    b = normalize(input_product(values, tile, candidate, ACC), values.sites.input, tile, candidate, PRODUCTS, STAGE)
    x = b + tl.sigmoid(r) * plus(a, values.bias_hn, cols)
    n = tanh(plus(normalize(x, values.sites.summed, tile, candidate, AFTER, STAGE), values.bias, candidate))
    return n + tl.sigmoid(z) * (load(values.states, tile.before, tile, cols, ACC) - n)


@triton.jit
def backward(dh, values, grads, tile, STAGE: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, ACC: tl.constexpr):
    """From the gradient of h to those of the products; the part of it that h before has is returned."""
    gates, candidate, cols = columns(tile, 3, 0, 2, UNITS), columns(tile, 3, 2, 1, UNITS), of_units(tile)
    rz, parts = preactivation_again(values, tile, gates, ACC)
    r, z = split2(rz, ROWS, UNITS)
    r, z = tl.sigmoid(r), tl.sigmoid(z)
    a, a_rstd = whiten(recurrent_product(values, tile, candidate, ACC), values.sites.recurrent, tile, candidate)
    b, b_rstd = whiten(input_product(values, tile, candidate, ACC), values.sites.input, tile, candidate)
    inside = plus(scaled(a, values.sites.recurrent, candidate), values.bias_hn, cols)
    s, s_rstd = whiten(scaled(b, values.sites.input, candidate) + r * inside, values.sites.summed, tile, candidate)
    n = tanh(plus(scaled(s, values.sites.summed, candidate), values.bias, candidate))

    dn = tl.where(tile.valid, dh * (1.0 - z) * (1.0 - n * n), 0.0)
    if grads.bias is not None and STAGE >= WRITE:
        add_to_feature(grads.bias, tile, candidate, tl.sum(dn, 0))
    dx = gradient(dn, s, s_rstd, values.sites.summed, tile, candidate, AFTER, STAGE)
    dinside = tl.where(tile.valid, dx * r, 0.0)
    if grads.bias_hn is not None and STAGE >= WRITE:
        add_to_feature(grads.bias_hn, tile, cols, tl.sum(dinside, 0))
    of_recurrent, of_input = Whitened(a, a_rstd), Whitened(b, b_rstd)
    product_gradients(dinside, dx, of_recurrent, of_input, values, grads, tile, candidate, STAGE)
    dz = dh * (load(values.states, tile.before, tile, cols, ACC) - n)
    drz = join2(dx * inside * r * (1.0 - r), dz * z * (1.0 - z), ROWS, UNITS)
    preactivation_gradient(tl.where(tile.valid, drz, 0.0), parts, values, grads, tile, gates, STAGE)
    return dh * z
