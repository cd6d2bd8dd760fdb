"""Kaldi's arithmetic on features: mean and variance normalization, deltas."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bnrnn.data.registry import DataError


def deltas(features: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    r"""The features, their first differences, and so on to an order, side by side: Kaldi's ``add-deltas``.

    .. math::
        \Delta^k x_t = \sum_j w^{(k)}_j x_{\min(\max(t + j, 0), T - 1)}, \qquad
        w^{(1)}_j = \frac{j}{\sum_{i=-N}^{N} i^2}, \quad w^{(k)} = w^{(k-1)} * w^{(1)}

    At the borders the first or last frame stands for those beyond, also for the higher orders, which therefore are not
    there what differences of differences would be.

    Args:
        features: ``(T, D)``.
        order: the highest.
        window: N, frames on either side.

    Returns:
        float32 ``(T, (order + 1) * D)``.
    """
    step = np.arange(-window, window + 1) / sum(i * i for i in range(-window, window + 1))
    reach = order * window
    padded = np.pad(features.astype(np.float64), ((reach, reach), (0, 0)), mode="edge")
    blocks, weights = [features.astype(np.float32)], np.ones(1)
    for _ in range(order):
        weights = np.convolve(weights, step)
        block, first = np.zeros(features.shape), reach - len(weights) // 2
        with np.errstate(invalid="ignore"):  # infinite features are for the caller to find
            for shift, weight in enumerate(weights, first):
                block += weight * padded[shift : shift + len(features)]
        blocks.append(block.astype(np.float32))
    return np.concatenate(blocks, axis=1)


def cmvn_statistics(features: Iterable[np.ndarray]) -> np.ndarray:
    """Sums, sums of squares and the number of frames, ``(2, D + 1)``, as ``compute-cmvn-stats`` has them.

    Raises:
        ValueError: no features at all.
    """
    found = None
    for x in features:
        x = x.astype(np.float64)
        part = np.zeros((2, x.shape[1] + 1))
        part[0, :-1], part[1, :-1], part[0, -1] = x.sum(0), (x * x).sum(0), len(x)
        found = part if found is None else found + part
    if found is None:
        raise ValueError("features: at least one utterance is needed")
    return found


def apply_cmvn(features: np.ndarray, statistics: np.ndarray, variance: bool = True) -> np.ndarray:
    """Features less their mean, with ``variance`` divided by their standard deviation: Kaldi's ``apply-cmvn``.

    Args:
        features: ``(T, D)``.
        statistics: of :func:`cmvn_statistics`.
        variance: Kaldi's ``--norm-vars``.

    Returns:
        float32 ``(T, D)``.

    Raises:
        DataError: the statistics are of other dimensions, or of no frames.
    """
    width = features.shape[1]
    if statistics.ndim != 2 or statistics.shape != (2, width + 1):
        raise DataError(
            f"the normalization has shape {statistics.shape}, and features of {width} dimensions need (2, {width + 1})"
        )
    count = statistics[0, -1]
    if not count > 0:
        raise DataError("the normalization was taken over no frames")
    mean = statistics[0, :-1] / count
    centred = features - mean
    if variance:
        spread = np.maximum(statistics[1, :-1] / count - mean * mean, 1e-20)
        centred = centred / np.sqrt(spread)
    return centred.astype(np.float32)
