"""A site in a tile: forward, and backward through its statistics. ops/normalize.py is the definition.

The gradient is that of csrc/README.md, with its residual: a mean rounded to float32 leaves deviations that do not sum
to 0, and without that sum neither would the gradient.
"""

# pyright: reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.structures import KNOWN, LAYER, NONE, OWN
from bnrnn.ops._triton.tile import add_to_feature, feature


@triton.jit
def moments(x, valid, count):
    """Mean and biased variance over the rows, in two passes; the second corrects what rounding has left in the mean."""
    share = 1.0 / tl.maximum(count, 1).to(x.dtype)
    mean = tl.sum(tl.where(valid, x, 0.0), 0) * share
    deviation = tl.where(valid, x - mean[None, :], 0.0)
    rest = tl.sum(deviation, 0) * share
    return mean + rest, tl.sum(deviation * deviation, 0) * share - rest * rest


@triton.jit
def gain(x, site, cols):
    if site.gamma is None:
        return tl.full([x.shape[1]], 1.0, x.dtype)
    else:
        return feature(site.gamma, cols, x.dtype)


@triton.jit
def statistics_at(table, site, tile, cols):
    """Where the step's statistics are."""
    if site.kind == OWN or site.kind == KNOWN:
        return table + tile.t.to(tl.int64) * cols.width + cols.feature
    else:
        return table + cols.feature


@triton.jit
def take(x, site, tile, cols):
    """Take the statistics of the step's rows, or borrow those of the step before, and write them down."""
    mean, var = moments(x, tile.valid, tile.count)
    mean_at = statistics_at(site.mean, site, tile, cols)
    var_at = statistics_at(site.var, site, tile, cols)
    borrows = tile.count < site.min_rows
    mean = tl.where(borrows, tl.load(mean_at - cols.width, mask=cols.exists & borrows, other=0.0), mean)
    var = tl.where(borrows, tl.load(var_at - cols.width, mask=cols.exists & borrows, other=0.0), var)
    tl.store(mean_at, mean, mask=cols.exists)
    tl.store(var_at, var, mask=cols.exists)
    return mean, var


@triton.jit
def of_rows(x, site, cols):
    """Of each row over its features: x less its mean, and 1 over the deviation."""
    share = tl.full([], 1.0, x.dtype) / cols.count
    centred = tl.where(cols.exists[None, :], x, 0.0)
    centred = tl.where(cols.exists[None, :], x - (tl.sum(centred, 1) * share)[:, None], 0.0)
    var = tl.sum(centred * centred, 1) * share
    return centred, 1.0 / tl.sqrt(var + site.eps)


@triton.jit
def normalize(x, site, tile, cols, TAKE: tl.constexpr):
    """``gamma (x - mean) / sqrt(var + eps)``.

    With ``TAKE`` the rows are the whole batch, of which statistics are taken.
    """
    if site.kind == NONE:
        return x
    elif site.kind == LAYER:
        centred, rstd = of_rows(x, site, cols)
        return centred * rstd[:, None] * gain(x, site, cols)[None, :]
    else:
        if site.kind == OWN and TAKE:
            mean, var = take(x, site, tile, cols)
        else:
            mean = tl.load(statistics_at(site.mean, site, tile, cols), mask=cols.exists, other=0.0)
            var = tl.load(statistics_at(site.var, site, tile, cols), mask=cols.exists, other=1.0)
        scale = gain(x, site, cols) / tl.sqrt(var + site.eps)
        return (x - mean[None, :]) * scale[None, :]


@triton.jit
def whiten(x, site, tile, cols):
    """``(x - mean) / sqrt(var + eps)`` by the statistics written down, and 1 over the deviation, to multiply with."""
    if site.kind == NONE:
        return x, 1.0
    elif site.kind == LAYER:
        centred, rstd = of_rows(x, site, cols)
        return centred * rstd[:, None], rstd[:, None]
    else:
        mean = tl.load(statistics_at(site.mean, site, tile, cols), mask=cols.exists, other=0.0)
        var = tl.load(statistics_at(site.var, site, tile, cols), mask=cols.exists, other=1.0)
        rstd = 1.0 / tl.sqrt(var + site.eps)
        return (x - mean[None, :]) * rstd[None, :], rstd[None, :]


@triton.jit
def scaled(white, site, cols):
    if site.kind == NONE:
        return white
    else:
        return white * gain(white, site, cols)[None, :]


@triton.jit
def gradient(grad, white, rstd, site, tile, cols):
    """From the gradient of a site's result, 0 in rows that are not valid, to that of ``x``, also 0 there."""
    if site.kind == NONE:
        return grad
    else:
        product = tl.sum(grad * white, 0)
        if site.grad_gamma is not None:
            add_to_feature(site.grad_gamma, tile, cols, product)
        gamma = gain(grad, site, cols)
        if site.kind == LAYER:
            share = tl.full([], 1.0, white.dtype) / cols.count
            grad = tl.where(cols.exists[None, :], grad * gamma[None, :], 0.0)
            mean = tl.sum(grad, 1) * share
            along = tl.sum(grad * white, 1) * share
            return (grad - mean[:, None] - white * along[:, None]) * rstd
        elif site.kind == OWN:
            takes = tile.count >= site.min_rows  # borrowed statistics are constants
            share = tl.where(takes, 1.0 / tl.maximum(tile.count, 1).to(grad.dtype), 0.0)
            residual = tl.sum(tl.where(tile.valid, white, 0.0), 0)
            along = product * share
            mean = (tl.sum(grad, 0) - along * residual) * share
            return tl.where(tile.valid, (grad - mean[None, :] - white * along[None, :]) * rstd * gamma[None, :], 0.0)
        else:
            return grad * rstd * gamma[None, :]
