"""Normalization of one step's rows.

Cooijmans et al. 2017, eq. 5; Laurent et al. 2015, eq. 7-8; Ba et al. 2016, eq. 3.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Site:
    """``kind`` is frame, sequence, layer or shift; ``mean`` and ``var`` are the population's table, one row a step."""

    kind: str
    gamma: np.ndarray | None = None
    beta: np.ndarray | None = None
    eps: float = 1e-5
    min_rows: int = 2
    mean: np.ndarray | None = None
    var: np.ndarray | None = None

    def columns(self, part: slice) -> Site:
        """The same for some of the features."""

        def cut(value: np.ndarray | None) -> np.ndarray | None:
            return None if value is None else value[..., part]

        return replace(self, gamma=cut(self.gamma), beta=cut(self.beta), mean=cut(self.mean), var=cut(self.var))


class Taken:
    """The batch statistics a run took, in the order of its steps, by site and first column."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, list[tuple[np.ndarray, np.ndarray]]]] = defaultdict(lambda: defaultdict(list))

    def add(self, name: str, column: int, mean: np.ndarray, var: np.ndarray) -> None:
        self._steps[name][column].append((mean, var))

    def last(self, name: str, column: int) -> tuple[np.ndarray, np.ndarray]:
        return self._steps[name][column][-1]

    def tables(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Site name to mean and variance ``(own steps, n)``."""
        result = {}
        for name, columns in self._steps.items():
            parts = [columns[c] for c in sorted(columns)]
            result[name] = tuple(
                np.concatenate([np.stack([step[k] for step in part]) for part in parts], 1) for k in (0, 1)
            )
        return result


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over the rows, the variance divided by their number."""
    m = len(rows)
    mean = rows.sum(0) / m
    return mean, ((rows - mean) ** 2).sum(0) / m


def scaled(rows: np.ndarray, mean: np.ndarray, var: np.ndarray, site: Site) -> np.ndarray:
    y = (rows - mean) / np.sqrt(var + site.eps)
    if site.gamma is not None:
        y = site.gamma * y
    if site.beta is not None:
        y = y + site.beta
    return y


def normalize_step(rows: np.ndarray, site: Site | None, name: str, t: int, taken: Taken, column: int = 0) -> np.ndarray:
    """Normalize the rows that are valid at step ``t``. ``column`` tells groups of features of one site apart."""
    if site is None:
        return rows
    if site.kind == "shift":
        return rows + site.beta
    if site.kind == "layer":
        return np.stack([scaled(row, row.mean(), ((row - row.mean()) ** 2).mean(), site) for row in rows])
    if site.mean is not None:
        at = min(t, len(site.mean) - 1)
        return scaled(rows, site.mean[at], site.var[at], site)
    if len(rows) >= site.min_rows:
        mean, var = moments(rows)
        taken.add(name, column, mean, var)
    else:
        # Taken over from an earlier step as constants: the complex step sees no dependence on a real part.
        mean, var = (value.real for value in taken.last(name, column))
    return scaled(rows, mean, var, site)
