"""Derivatives by the complex step: exact to rounding, without the cancellation of finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

STEP = 1e-30


def directional(
    function: Callable[[dict[str, np.ndarray]], np.ndarray],
    at: Mapping[str, np.ndarray],
    name: str,
    direction: np.ndarray,
) -> float:
    """The derivative of a scalar function of named arrays as ``at[name]`` moves along ``direction``.

    The function must be analytic where it is evaluated: no absolute values, no conjugates.
    """
    moved = dict(at)
    moved[name] = at[name] + 1j * STEP * direction
    return float(np.imag(function(moved)) / STEP)
