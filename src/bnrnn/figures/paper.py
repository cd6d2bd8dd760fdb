"""What the papers report: curves read off their figures and values of their tables."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal


@dataclass(frozen=True)
class PaperCurve:
    """One curve of a figure: ``values`` at ``updates``, to be interpolated linearly."""

    name: str
    updates: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, update: int) -> float | None:
        """The value at an update, None outside the figure."""
        if not self.updates[0] <= update <= self.updates[-1]:
            return None
        right = max(bisect_left(self.updates, update), 1)
        x0, x1 = self.updates[right - 1], self.updates[right]
        y0, y1 = self.values[right - 1], self.values[right]
        return y0 + (y1 - y0) * (update - x0) / (x1 - x0)


@dataclass(frozen=True)
class PaperResult:
    """One printed number: of which norm, on which part, with which statistics, and where it stands.

    ``metric`` is named where it is not the experiment's.
    """

    norm: str
    split: str
    statistics: str
    value: float
    where: str
    metric: str | None = None


@dataclass(frozen=True)
class PaperExperiment:
    """What the papers report of one experiment.

    Args:
        metric: the name of the metric in our records.
        axis: its name in the figure.
        better: whether the higher or the lower value is better.
        statistics: of the curves.
        figure: which figure the curves are from.
        curves: by norm.
        results: printed values.
    """

    metric: str
    axis: str
    better: Literal["higher", "lower"]
    statistics: str
    figure: str | None
    curves: dict[str, PaperCurve]
    results: tuple[PaperResult, ...]


@dataclass(frozen=True)
class PaperLengths:
    """One curve of the figure of test bits per character over the length of the sequences."""

    name: str
    norm: str
    statistics: str
    lengths: tuple[int, ...]
    values: tuple[float, ...]


def paper_lengths() -> list[PaperLengths]:
    """The curves of Cooijmans et al. 2017, Figure 4b."""
    return [
        PaperLengths(**{**curve, "lengths": tuple(curve["lengths"]), "values": tuple(curve["values"])})
        for curve in _content()["lengths"]
    ]


def paper_source() -> str:
    """Where the numbers come from."""
    return _content()["source"]


def paper_experiment(name: str) -> PaperExperiment | None:
    """The papers' numbers for an experiment, None for an experiment that is not in them."""
    found = _content()["experiments"].get(name)
    if found is None:
        return None
    if "as" in found:
        return paper_experiment(found["as"])
    curves = {
        norm: PaperCurve(curve["name"], tuple(curve["updates"]), tuple(curve["values"]))
        for norm, curve in found["curves"].items()
    }
    results = tuple(PaperResult(**result) for result in found["results"])
    return PaperExperiment(**{**found, "curves": curves, "results": results})


@cache
def _content() -> dict[str, Any]:
    return json.loads(files("bnrnn.figures").joinpath("paper_curves.json").read_text())
