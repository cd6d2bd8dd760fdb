"""What the papers report: curves read off their figures and values of their tables."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class PaperCurve:
    """One curve of a figure: ``values`` at ``updates``, to be interpolated linearly.

    Args:
        name: what the paper calls the model.
        updates, values: the points.
        variant: what our runs call the model; a norm's name, where the experiment has no other names.
        split: ``"valid"``, or ``"train"`` for what the authors' loop logged in training.
        metric: our name of the quantity.
        where: which figure.
        rows: over how many rows the batch statistics were taken, any of these; empty where the sources do not say.
    """

    name: str
    updates: tuple[int, ...]
    values: tuple[float, ...]
    variant: str = "none"
    split: str = "valid"
    metric: str = ""
    where: str = ""
    rows: tuple[int, ...] = ()

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
    """One printed number: of which model, on which part, with which statistics, and where it stands.

    ``statistics`` is None where the paper does not say. For ``"train"`` the metric is one of the training rows.
    """

    variant: str
    split: str
    statistics: str | None
    metric: str
    value: float
    where: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class PaperLengths:
    """One curve of test bits per character over the length of the pieces."""

    name: str
    variant: str
    statistics: str
    lengths: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PaperFigure:
    """What the papers report of one experiment.

    Args:
        figure: which figure the curves are from.
        curves: all of them.
        results: printed values.
        names: what the paper calls each variant.
        lengths: curves over the length of the test pieces.
        unit: what the curves' horizontal axis counts.
    """

    figure: str | None
    curves: tuple[PaperCurve, ...]
    results: tuple[PaperResult, ...]
    names: dict[str, str]
    lengths: tuple[PaperLengths, ...] = ()
    unit: str = "updates"

    def curve(self, variant: str, metric: str, split: str = "valid") -> PaperCurve | None:
        """The curve of a model, None where the figure has none."""
        wanted = (variant, metric, split)
        return next((curve for curve in self.curves if (curve.variant, curve.metric, curve.split) == wanted), None)


def paper_source() -> str:
    """Where the numbers come from."""
    return _content()["source"]


@cache
def paper_figure(key: str | None) -> PaperFigure | None:
    """The papers' numbers under a key, as a run's ``config.json`` names it; None for None.

    Raises:
        ValueError: there is no such key.
    """
    if key is None:
        return None
    figures = _content()["figures"]
    if key not in figures:
        raise ValueError(f"the papers' numbers have no key {key!r}; there are {', '.join(figures)}")
    found = figures[key]
    return PaperFigure(
        figure=found["figure"],
        curves=tuple(
            PaperCurve(
                **{
                    **curve,
                    "updates": tuple(curve["updates"]),
                    "values": tuple(curve["values"]),
                    "rows": _rows(curve),
                }
            )
            for curve in found["curves"]
        ),
        results=tuple(PaperResult(**{**result, "rows": _rows(result)}) for result in found["results"]),
        names={**found.get("names", {}), **{curve["variant"]: curve["name"] for curve in found["curves"]}},
        lengths=tuple(
            PaperLengths(**{**curve, "lengths": tuple(curve["lengths"]), "values": tuple(curve["values"])})
            for curve in found.get("lengths", ())
        ),
        unit=found.get("unit", "updates"),
    )


def _rows(record: dict[str, Any]) -> tuple[int, ...]:
    rows = record.get("rows", ())
    return tuple(rows) if isinstance(rows, Iterable) else (rows,)


@cache
def _content() -> dict[str, Any]:
    return json.loads(files("bnrnn.figures").joinpath("paper_curves.json").read_text())
