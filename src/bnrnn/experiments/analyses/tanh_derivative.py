"""The derivative of tanh under a normally distributed input: Cooijmans et al. 2017, section 4, Figure 2b."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

_NODES = 200  # of the Gauss-Hermite quadrature; 1e-13 from the mean at a standard deviation of 1
QUARTILES = (0.25, 0.75)


@dataclass(frozen=True)
class TanhDerivative:
    r"""Mean and quartiles of :math:`1 - \tanh^2(x)` with :math:`x \sim \mathcal{N}(0, \sigma^2)`.

    Attributes:
        deviations: the standard deviations :math:`\sigma`, ``(S,)``.
        mean, lower, upper: exact mean, first and third quartile, ``(S,)``.
        sampled_mean, sampled_lower, sampled_upper: the same of samples.
    """

    deviations: np.ndarray
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    sampled_mean: np.ndarray
    sampled_lower: np.ndarray
    sampled_upper: np.ndarray


def tanh_derivative(deviations: int = 1000, samples: int = 1000, largest: float = 1.0, seed: int = 1) -> TanhDerivative:
    r"""Exact curves and sampled ones.

    The mean is :math:`\frac{1}{\sqrt{\pi}} \int e^{-z^2} (1 - \tanh^2(\sqrt{2} \sigma z)) \, dz` by quadrature. The
    derivative falls with :math:`|x|`, so its lower quartile stands where :math:`|x|` has its upper one.

    Args:
        deviations: how many standard deviations, equally spaced from 0 to ``largest``.
        samples: drawn at each.
        largest: the largest standard deviation.
        seed: of the samples.

    Raises:
        ValueError: fewer than two deviations or samples, or ``largest`` not above 0.
    """
    for name, value in (("deviations", deviations), ("samples", samples)):
        if value < 2:
            raise ValueError(f"{name} must be at least 2, got {value}")
    if not largest > 0:
        raise ValueError(f"largest must be greater than 0, got {largest}")
    sigma = np.linspace(0.0, largest, deviations)
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    mean = _derivative(np.sqrt(2.0) * np.outer(sigma, nodes)) @ weights / np.sqrt(np.pi)
    lower, upper = (_derivative(sigma * norm.ppf(1 - quartile / 2)) for quartile in QUARTILES)
    drawn = _derivative(sigma[:, None] * np.random.default_rng(seed).standard_normal((deviations, samples)))
    return TanhDerivative(sigma, mean, lower, upper, drawn.mean(1), *np.quantile(drawn, QUARTILES, axis=1))


def _derivative(x: np.ndarray) -> np.ndarray:
    return 1.0 - np.tanh(x) ** 2
