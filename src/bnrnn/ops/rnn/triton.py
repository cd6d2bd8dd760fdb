"""The simple recurrence's arithmetic in a tile."""

from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.preactivation import preactivation, preactivation_again, preactivation_gradient
from bnrnn.ops._triton.tile import of_units, tanh


@triton.jit
def activation(x, RELU: tl.constexpr):
    if RELU:
        return tl.where(x <= 0, 0.0, x)  # NaN stays NaN
    else:
        return tanh(x)


@triton.jit
def forward(values, tile, RELU: tl.constexpr, STAGE: tl.constexpr, ACC: tl.constexpr):
    """The activation of the pre-activations."""
    return activation(preactivation(values, tile, of_units(tile), STAGE, ACC), RELU)


@triton.jit
def backward(dh, values, grads, tile, RELU: tl.constexpr, STAGE: tl.constexpr, ACC: tl.constexpr):
    """From the gradient of the activation to those of the products."""
    cols = of_units(tile)
    z, parts = preactivation_again(values, tile, cols, ACC)
    h = activation(z, RELU)
    dz = tl.where(h > 0, dh, 0.0) if RELU else dh * (1.0 - h * h)
    preactivation_gradient(tl.where(tile.valid, dz, 0.0), parts, values, grads, tile, cols, STAGE)
