"""Runs that differ in the seed alone, as one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnrnn.report.facts import Facts
from bnrnn.report.runs import Point, Run


@dataclass(frozen=True)
class Sample:
    """Values of one number over seeds.

    Args:
        values: one for each run.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation (of a sample: over n - 1), None of a single value."""
        if len(self.values) < 2:
            return None
        return math.sqrt(sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1))


@dataclass(frozen=True)
class Measured:
    """A sample at an update, and over how many rows the statistics behind it were taken; None without such."""

    update: int
    sample: Sample
    rows: int | None


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone; often only one.

    Args:
        runs: in the order of their seeds.
        mark: what tells the group from another one of the same label.
    """

    runs: tuple[Run, ...]
    mark: str = ""

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def experiment(self) -> str:
        return self.first.experiment

    @property
    def subject(self) -> str:
        """What is shown together: the experiment, or one of its tasks."""
        return ": ".join(filter(None, (self.experiment, self.facts.group)))

    @property
    def facts(self) -> Facts:
        return self.first.facts

    @property
    def is_trial(self) -> bool:
        """Whether the group belongs to a sweep, which has a figure of its own."""
        return self.first.is_trial

    @property
    def label(self) -> str:
        """That of the run, or the model and how many seeds."""
        label = self.first.label if len(self.runs) == 1 else f"{self.first.model}, {len(self.runs)} seeds"
        return f"{label} [{self.mark}]" if self.mark else label

    @property
    def complete(self) -> bool:
        return all(run.complete for run in self.runs)

    @property
    def length(self) -> str:
        """Updates done, of how many, and whether that is a part."""
        shortest = min(self.runs, key=lambda run: run.updates)
        return shortest.length if self.complete else f"{shortest.length} (partial)"

    @property
    def status(self) -> str:
        """``"complete"``, or ``"partial"`` with how far the shortest run is."""
        return next((run.status for run in sorted(self.runs, key=lambda run: run.updates) if not run.complete),
                    self.first.status)  # fmt: skip

    def evaluations(self, metric: str, statistics: str, split: str = "valid") -> list[Measured]:
        """An evaluation metric at the updates that all runs have it at."""
        return _common([run.evaluations(metric, statistics, split) for run in self.runs])

    def training(self, metric: str) -> list[Measured]:
        """A training metric at the updates that all runs have it at."""
        return _common([run.training(metric) for run in self.runs])

    def final(self, split: str, statistics: str) -> tuple[dict[str, Sample], int | None]:
        """The selected models' metrics, and their rows; empty while one of the runs has none."""
        found = [run.final(split, statistics) for run in self.runs]
        names = [name for name in found[0][0] if all(name in metrics for metrics, _ in found)]
        return {name: Sample(tuple(metrics[name] for metrics, _ in found)) for name in names}, found[0][1]

    def trained(self, metric: str) -> Sample | None:
        """Mean of a training metric up to the selected model, None while one of the runs has none."""
        values = [run.trained(metric) for run in self.runs]
        return Sample(tuple(value for value in values if value is not None)) if None not in values else None


def group(runs: Iterable[Run]) -> list[Group]:
    """Runs by what they have in common, in the order of their first ones.

    A run that stands in two folders, as in ``runs/`` and in ``records/``, is taken once, where it is longer. A second
    run of the same options *and* seed is a group of its own; where two have one label, the folder tells them apart.
    """
    groups: dict[str, list[list[Run]]] = {}
    for run in _once(runs):
        alike = groups.setdefault(_key(run), [])
        place = next((found for found in alike if run.seed not in [other.seed for other in found]), None)
        if place is None or run.seed is None:
            alike.append([run])
        else:
            place.append(run)
    found = [Group(tuple(sorted(alike, key=lambda run: run.seed or 0))) for kinds in groups.values() for alike in kinds]
    labels = [(each.subject, each.label) for each in found]
    return [
        replace(each, mark=each.first.path.name) if labels.count((each.subject, each.label)) > 1 else each
        for each in found
    ]


def _once(runs: Iterable[Run]) -> list[Run]:
    """Of copies of one run, known by experiment and first start, the longest."""
    kept: dict[Any, Run] = {}
    for run in runs:
        started = run.environments[0].get("started") if run.environments else None
        identity = (run.experiment, run.label, started) if started else run.path
        if identity not in kept or run.updates > kept[identity].updates:
            kept[identity] = run
    return list(kept.values())


def _key(run: Run) -> str:
    options = {name: value for name, value in run.config["config"].items() if name != "seed"}
    return json.dumps([run.experiment, options, run.config.get("precision")], sort_keys=True)


def _common(curves: Sequence[Sequence[Point]]) -> list[Measured]:
    """Points that all curves have at the same update with the same rows."""
    found = [{(point.update, point.rows): point.value for point in curve} for curve in curves]
    return [
        Measured(update, Sample(tuple(curve[update, rows] for curve in found)), rows)
        for update, rows in found[0]
        if all((update, rows) in curve for curve in found)
    ]
