"""A site in a tile: forward, and backward through its statistics. ops/normalize.py is the definition.

The gradient is that of csrc/README.md, with its residual: a mean rounded to float32 leaves deviations that do not sum
to 0, and without that sum neither would the gradient.
"""

# pyright: reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from bnrnn.ops._triton.structures import ALL, KNOWN, LAYER, NONE, OWN, WRITE
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
def take(x, site, tile, cols, STAGE: tl.constexpr):
    """Take the statistics of the step's rows, or borrow those of the step before, and write them down.

    Of a batch of several tiles the rows before this one's are in what is written down already (Chan et al. 1979).
    """
    mean_at = statistics_at(site.mean, site, tile, cols)
    var_at = statistics_at(site.var, site, tile, cols)
    if STAGE == ALL:
        mean, var = moments(x, tile.valid, tile.count)
    else:
        before = tile.first_row
        rows = tl.minimum(tile.count - before, x.shape[0])
        mean, var = moments(x, tile.valid, rows)
        share = rows.to(x.dtype) / tl.maximum(before + rows, 1).to(x.dtype)
        merged = cols.exists & (before > 0)
        mean_before = tl.load(mean_at, mask=merged, other=0.0)
        var_before = tl.load(var_at, mask=merged, other=0.0)
        apart = mean - mean_before
        mean = tl.where(before > 0, mean_before + share * apart, mean)
        var = tl.where(before > 0, var_before + share * (var - var_before + (1.0 - share) * apart * apart), var)
    var = tl.where(var < 0, 0.0, var)  # by the rest's square; NaN stays NaN
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
def normalize(x, site, tile, cols, AT: tl.constexpr, STAGE: tl.constexpr):
    """``gamma (x - mean) / sqrt(var + eps)``.

    Statistics of the step's own rows are taken in the passage ``AT``, or where there is but one.
    """
    if site.kind == NONE:
        return x
    elif site.kind == LAYER:
        centred, rstd = of_rows(x, site, cols)
        return centred * rstd[:, None] * gain(x, site, cols)[None, :]
    else:
        if site.kind == OWN and (STAGE == ALL or STAGE == AT):
            mean, var = take(x, site, tile, cols, STAGE)
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
def gradient(grad, white, rstd, site, tile, cols, AT: tl.constexpr, STAGE: tl.constexpr):
    """From the gradient of a site's result, 0 in rows that are not valid, to that of ``x``, also 0 there."""
    if site.kind == NONE:
        return grad
    else:
        if site.kind == OWN and STAGE != ALL:
            if STAGE == AT:
                add_sums(grad, white, site, tile, cols)
            product, total, residual = sums(site, cols, grad.dtype)
            first = tile.first_row == 0
        else:
            product = tl.sum(grad * white, 0)
            total = tl.sum(grad, 0)
            residual = tl.sum(tl.where(tile.valid, white, 0.0), 0)
            first = tile.first_row >= 0
        if site.grad_gamma is not None and STAGE >= WRITE:
            add_to_feature(site.grad_gamma, tile, cols, tl.where(first, product, 0.0))
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
            along = product * share
            mean = (total - along * residual) * share
            return tl.where(tile.valid, (grad - mean[None, :] - white * along[None, :]) * rstd * gamma[None, :], 0.0)
        else:
            return grad * rstd * gamma[None, :]


@triton.jit
def sums(site, cols, ACC: tl.constexpr):
    """Over the rows of a batch: of a gradient times xhat, of it, and of xhat."""
    at = site.sums + cols.feature
    return (
        tl.load(at, mask=cols.exists, other=0.0).to(ACC),
        tl.load(at + cols.width, mask=cols.exists, other=0.0).to(ACC),
        tl.load(at + 2 * cols.width, mask=cols.exists, other=0.0).to(ACC),
    )


@triton.jit
def add_sums(grad, white, site, tile, cols):
    """Add a tile's part to those sums, which the first tile begins anew."""
    product, total, residual = sums(site, cols, grad.dtype)
    later = tile.first_row > 0
    at = site.sums + cols.feature
    product = tl.where(later, product, 0.0) + tl.sum(grad * white, 0)
    total = tl.where(later, total, 0.0) + tl.sum(grad, 0)
    residual = tl.where(later, residual, 0.0) + tl.sum(tl.where(tile.valid, white, 0.0), 0)
    tl.store(at, product, mask=cols.exists)
    tl.store(at + cols.width, total, mask=cols.exists)
    tl.store(at + 2 * cols.width, residual, mask=cols.exists)
