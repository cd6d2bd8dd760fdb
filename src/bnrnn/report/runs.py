"""Run folders as a report sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bnrnn.report.facts import Facts, facts_of

ROOTS = (Path("runs"), Path("records"))
NEIGHBOURS = 0
"""In place of a number of rows: batches of neighbours in the file. Versions before rows were noted took such ones, and
neighbours are more alike than the shuffled rows of the authors' batches."""


@dataclass(frozen=True)
class Point:
    """A value at an update, and over how many rows the statistics behind it were taken.

    ``rows`` is None without such statistics, and :data:`NEIGHBOURS` where a version took rows in the order of the file.
    """

    update: int
    value: float
    rows: int | None


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Args:
        path: the folder.
        config: ``config.json``.
        rows: ``metrics.jsonl``, all whole lines.
        result: ``result.json``, None while there is none.
        environments: ``environment.json``, one entry for each start.
        lengths: ``lengths.json``, what ``bnrnn figure lengths`` measured, None without it.
        measured_rows: ``rows.json``, what ``bnrnn figure rows`` measured, None without it.
        divergence: ``divergence.json`` of a run that diverged, else None.
    """

    path: Path
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    result: dict[str, Any] | None
    environments: tuple[dict[str, Any], ...]
    lengths: dict[str, Any] | None = None
    measured_rows: dict[str, Any] | None = None
    divergence: dict[str, Any] | None = None

    @property
    def experiment(self) -> str:
        return self.config["experiment"]

    @cached_property
    def facts(self) -> Facts:
        """How the run is judged."""
        logged = frozenset(name for row in self.rows if row["kind"] == "evaluation" for name in row)
        return facts_of(self.config, logged)

    @property
    def is_trial(self) -> bool:
        """Whether the run is a sweep's: its folder is named by its options, as ``gamma=.1``."""
        return "=" in self.path.name

    @property
    def seed(self) -> int | None:
        return self.config["config"].get("seed")

    @property
    def label(self) -> str:
        """Cell, norm and seed, and every other option that is not as by default."""
        return self.config["label"] + self._options

    @property
    def model(self) -> str:
        """The label without the seed: what runs of other seeds have in common."""
        return re.sub(r"-seed\d+", "", self.config["label"]) + self._options

    @property
    def _options(self) -> str:
        changed = self.config.get("changed", {})
        told = ", ".join(f"{option} {changed[option]}" for option in self.facts.options if option in changed)
        return f" ({told})" if told else ""

    @property
    def norm(self) -> str:
        return self.config["config"].get("norm", "none")

    @cached_property
    def updates(self) -> int:
        """Updates done, as far as result or metrics tell."""
        logged = max((row["update"] for row in self.rows), default=0)
        return max(logged, self.result["updates"]) if self.result else logged

    @property
    def planned(self) -> int | None:
        """The experiment's full length in updates, None where the folder does not tell."""
        if self.result is not None:
            return self.result["planned_updates"]
        return self.environments[-1].get("planned_updates") if self.environments else None

    @property
    def epoch_length(self) -> int | None:
        """Updates of an epoch, None where the folder does not tell."""
        epochs = self.config["config"].get("epochs")
        return self.planned // epochs if self.planned and epochs else None

    @property
    def complete(self) -> bool:
        """Whether the run has its full length and its final evaluation."""
        return self.result is not None and self.result["status"] == "complete"

    @property
    def resumable(self) -> bool:
        """Whether the folder holds what the run can go on from; a record does not."""
        return (self.path / "checkpoint.safetensors").exists()

    @property
    def length(self) -> str:
        """Updates done, of how many."""
        if self.complete or self.planned is None:
            return f"{self.updates:,}"
        return f"{self.updates:,} of {self.planned:,}"

    @property
    def status(self) -> str:
        """``"complete"``, or ``"partial"`` or ``"diverged"`` with how far it is."""
        if self.complete:
            return f"complete: {self.length} updates"
        if self.divergence is not None:
            return f"diverged after update {self.divergence['update']:,}"
        return f"partial: {self.length} updates" + ("" if self.result else ", not finished")

    def evaluations(self, metric: str, statistics: str, split: str = "valid") -> list[Point]:
        """An evaluation metric over updates, with the rows that its statistics were taken over."""
        wanted = {"kind": "evaluation", "split": split, "statistics": statistics}
        return [
            Point(row["update"], row[metric], self._rows(row))
            for row in self.rows
            if metric in row and wanted.items() <= row.items()
        ]

    def training(self, metric: str) -> list[Point]:
        """A training metric over updates."""
        rows = None if self._without_rows else self.config["config"].get("batch_size")
        return [
            Point(row["update"], row[metric], rows) for row in self.rows if row["kind"] == "train" and metric in row
        ]

    def final(self, split: str, statistics: str) -> tuple[dict[str, float], int | None]:
        """The selected model's metrics, and the rows that their statistics were taken over."""
        metrics = dict((self.result or {}).get("evaluation", {}).get(split, {}).get(statistics, {}))
        rows = self._rows(metrics)
        metrics.pop("rows", None)
        return metrics, rows

    @property
    def selected(self) -> int | None:
        """The update of the selected model."""
        return ((self.result or {}).get("selected") or {}).get("update")

    def trained(self, metric: str) -> float | None:
        """Mean of a training metric between the evaluation before the selected model's and it."""
        selected = self.selected or 0
        evaluated = {row["update"] for row in self.rows if row["kind"] == "evaluation" and row["split"] == "valid"}
        start = max((update for update in evaluated if update < selected), default=0)
        values = [point.value for point in self.training(metric) if start < point.update <= selected]
        return sum(values) / len(values) if values else None

    @property
    def _without_rows(self) -> bool:
        """Whether there is no batch normalization, so that no number depends on rows."""
        return self.norm in ("none", "layer")

    def _rows(self, record: dict[str, Any]) -> int | None:
        """The rows of a record. One of an earlier version says nothing: its streams were as they are now."""
        if "rows" in record:
            return record["rows"]
        if self._without_rows:
            return None
        options = self.config["config"]
        return NEIGHBOURS if "evaluation_batch_size" in options else options.get("batch_size")

    def brief(self) -> str:
        """One line for ``bnrnn list``."""
        test = (self.result or {}).get("evaluation", {}).get("test", {}).get("population", {})
        name = (self.result or {}).get("headline")
        number = f"; test {name} {test[name]:.4f}" if name in test else ""
        return f"{self.label}, {self.status}{number} ({self.path})"


def read_run(path: Path) -> Run:
    """Reads a run folder, also of a run still at work.

    Raises:
        ValueError: it is not a run folder, or a file of it is damaged.
    """
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} is not a run folder: it has no config.json")
    config = _json(path / "config.json")
    if not isinstance(config, dict) or not {"experiment", "label", "config"} <= config.keys():
        raise ValueError(f"{path / 'config.json'} is not the config of a run; leave this folder out")
    return Run(
        path=path,
        config=config,
        rows=tuple(_rows(path / "metrics.jsonl")),
        result=_json(path / "result.json") if (path / "result.json").exists() else None,
        environments=tuple(_json(path / "environment.json") if (path / "environment.json").exists() else ()),
        lengths=_json(path / "lengths.json") if (path / "lengths.json").exists() else None,
        measured_rows=_json(path / "rows.json") if (path / "rows.json").exists() else None,
        divergence=_json(path / "divergence.json") if (path / "divergence.json").exists() else None,
    )


def find_runs(roots: Iterable[Path] = ROOTS) -> list[Run]:
    """All runs one or two levels below the roots, in the order of their paths."""
    configs = {config for root in roots for depth in ("*", "*/*") for config in root.glob(f"{depth}/config.json")}
    return [read_run(config.parent) for config in sorted(configs)]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); leave this folder out or repeat the run") from error


def _rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines; the last one may be a part, of a run at work or killed."""
    if not path.exists():
        return []
    *lines, _ = path.read_text().split("\n")
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); leave this folder out or repeat the run") from error
