"""The normalized sum of the two products of some gates, forward and back."""

# pyright: reportGeneralTypeIssues=false
from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from bnrnn.ops._triton.normalization import gradient, normalize, scaled, whiten
from bnrnn.ops._triton.structures import PRODUCTS, SUM, WRITE
from bnrnn.ops._triton.tile import add_to_feature, load, plus, store


class Whitened(NamedTuple):
    """A site's ``(x - mean) / sqrt(var + eps)``, and 1 over that root."""

    value: Any
    rstd: Any


class Sum(NamedTuple):
    """The sum's parts as the backward pass computes them again."""

    recurrent: Whitened
    input: Whitened
    summed: Whitened


@triton.jit
def recurrent_product(values, tile, cols, ACC: tl.constexpr):
    return load(values.products, tile.products, tile, cols, ACC)


@triton.jit
def input_product(values, tile, cols, ACC: tl.constexpr):
    """A one-hot row's is a row of the weight; an index out of range gives NaN."""
    if values.index is None:
        return load(values.inputs, tile.inputs, tile, cols, ACC)
    else:
        at = tile.t.to(tl.int64) * tile.batch + tile.row
        index = tl.load(values.index + at, mask=tile.valid, other=0)
        known = (index >= 0) & (index < values.classes)
        row = values.inputs + tl.where(known, index, 0) * cols.width
        value = tl.load(row + cols.place[None, :], mask=tile.valid & cols.exists[None, :], other=0.0).to(ACC)
        return tl.where(known, value, float("nan"))


@triton.jit
def preactivation(values, tile, cols, STAGE: tl.constexpr, ACC: tl.constexpr):
    """``N_s(N_h(W_hh h) + N_x(W_ih x)) + b``."""
    x = normalize(recurrent_product(values, tile, cols, ACC), values.sites.recurrent, tile, cols, PRODUCTS, STAGE)
    if values.inputs is not None:
        x += normalize(input_product(values, tile, cols, ACC), values.sites.input, tile, cols, PRODUCTS, STAGE)
    return plus(normalize(x, values.sites.summed, tile, cols, SUM, STAGE), values.bias, cols)


@triton.jit
def preactivation_again(values, tile, cols, ACC: tl.constexpr):
    """The same, and its parts."""
    recurrent, recurrent_rstd = whiten(recurrent_product(values, tile, cols, ACC), values.sites.recurrent, tile, cols)
    x = scaled(recurrent, values.sites.recurrent, cols)
    input = recurrent
    input_rstd = 1.0
    if values.inputs is not None:
        input, input_rstd = whiten(input_product(values, tile, cols, ACC), values.sites.input, tile, cols)
        x += scaled(input, values.sites.input, cols)
    summed, summed_rstd = whiten(x, values.sites.summed, tile, cols)
    parts = Sum(Whitened(recurrent, recurrent_rstd), Whitened(input, input_rstd), Whitened(summed, summed_rstd))
    return plus(scaled(summed, values.sites.summed, cols), values.bias, cols), parts


@triton.jit
def preactivation_gradient(grad, parts, values, grads, tile, cols, STAGE: tl.constexpr):
    """From the gradient of the pre-activations, 0 in rows that are not valid, to those of the products."""
    if grads.bias is not None and STAGE >= WRITE:
        add_to_feature(grads.bias, tile, cols, tl.sum(grad, 0))
    grad = gradient(grad, parts.summed.value, parts.summed.rstd, values.sites.summed, tile, cols, SUM, STAGE)
    product_gradients(grad, grad, parts.recurrent, parts.input, values, grads, tile, cols, STAGE)


@triton.jit
def product_gradients(recurrent, input, of_recurrent, of_input, values, grads, tile, cols, STAGE: tl.constexpr):
    """From the gradients of the two normalized products to those of the products, written down."""
    recurrent = gradient(
        recurrent, of_recurrent.value, of_recurrent.rstd, values.sites.recurrent, tile, cols, PRODUCTS, STAGE
    )
    if STAGE >= WRITE:
        store(grads.products, tile.inputs, tile, cols, recurrent)
    if grads.inputs is not None:
        input = gradient(input, of_input.value, of_input.rstd, values.sites.input, tile, cols, PRODUCTS, STAGE)
        if STAGE >= WRITE:
            store(grads.inputs, tile.inputs, tile, cols, input)
