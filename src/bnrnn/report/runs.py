"""Run folders as a report sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOTS = (Path("runs"), Path("records"))


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
    """

    path: Path
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    result: dict[str, Any] | None
    environments: tuple[dict[str, Any], ...]
    lengths: dict[str, Any] | None = None

    @property
    def experiment(self) -> str:
        return self.config["experiment"]

    @property
    def label(self) -> str:
        """Cell, norm and seed, and every other option that is not as by default."""
        named = ("cell", "norm", "seed", "epochs")
        others = {k: v for k, v in self.config.get("changed", {}).items() if k not in named}
        told = ", ".join(f"{name} {value}" for name, value in others.items())
        return f"{self.config['label']} ({told})" if told else self.config["label"]

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
    def complete(self) -> bool:
        """Whether the run has its full length and its final evaluation."""
        return self.result is not None and self.result["status"] == "complete"

    @property
    def length(self) -> str:
        """Updates done, of how many."""
        if self.complete or self.planned is None:
            return f"{self.updates:,}"
        return f"{self.updates:,} of {self.planned:,}"

    @property
    def status(self) -> str:
        """``"complete"``, or ``"partial"`` with how far it is."""
        if self.complete:
            return f"complete: {self.length} updates"
        return f"partial: {self.length} updates" + ("" if self.result else ", not finished")

    def curve(self, metric: str, statistics: str = "batch", split: str = "valid") -> tuple[list[int], list[float]]:
        """Updates and values of an evaluation metric."""
        wanted = {"kind": "evaluation", "split": split, "statistics": statistics}
        rows = [row for row in self.rows if metric in row and wanted.items() <= row.items()]
        return [row["update"] for row in rows], [row[metric] for row in rows]

    def training_curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Updates and values of a training metric."""
        rows = [row for row in self.rows if row["kind"] == "train" and metric in row]
        return [row["update"] for row in rows], [row[metric] for row in rows]

    def training_perplexity(self) -> float | None:
        """Mean perplexity of the training batches in the epoch before the selected model; None of other tasks."""
        selected = ((self.result or {}).get("selected") or {}).get("update") or 0
        evaluated, _ = self.curve("batch_perplexity")
        start = max((update for update in evaluated if update < selected), default=0)
        rows = zip(*self.training_curve("perplexity"), strict=True)
        values = [value for update, value in rows if start < update <= selected]
        return sum(values) / len(values) if values else None

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
