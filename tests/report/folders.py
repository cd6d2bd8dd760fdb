"""Run folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnrnn.report.groups import Group
from bnrnn.report.runs import read_run

FACTS: dict[str, Any] = {
    "headline": "accuracy",
    "better": "higher",
    "axis": "validation accuracy",
    "statistics": "batch",
    "comparable": True,
    "figure": "pmnist",
    "options": [],
}
"""What ``config.json`` says to a report of a run of permuted MNIST."""

BITS = {**FACTS, "headline": "bpc", "better": "lower", "axis": "validation bits per character", "figure": "ptb-char"}
WORDS = {
    **FACTS,
    "headline": "batch_perplexity",
    "better": "lower",
    "axis": "validation perplexity, mean over batches",
    "figure": "ptb-word-small",
    "also": ["perplexity"],
}


def evaluated(update: int, rows: int | None = None, split: str = "valid", **metrics: float) -> dict[str, Any]:
    """A row of an evaluation with batch statistics."""
    return {"kind": "evaluation", "update": update, "split": split, "statistics": "batch", "rows": rows, **metrics}


def trained(update: int, **metrics: float) -> dict[str, Any]:
    """A row of training."""
    return {"kind": "train", "update": update, **metrics}


def write_run(
    folder: Path,
    experiment: str = "pmnist",
    norm: str = "recurrent",
    rows: list[dict[str, Any]] | None = None,
    report: dict[str, Any] | None = FACTS,
    evaluation: dict[str, Any] | None = None,
    complete: bool = True,
    selected: int = 1000,
    seed: int = 1,
    started: str | None = None,
    **options: Any,
) -> Path:
    """A run of 1,000 updates with validation accuracies .1, .5 and .7 over 100 rows, unless told otherwise."""
    folder.mkdir(parents=True)
    if rows is None:
        values = {0: 0.1, 500: 0.5, 1000: 0.7}
        count = None if norm == "none" else 100
        rows = [evaluated(update, count, accuracy=value, error=1 - value, loss=1.0) for update, value in values.items()]
        rows += [trained(update, loss=2.0 - update / 1000) for update in (50, 550)]
    config = {"cell": "lstm", "norm": norm, "batch_size": 100, "seed": seed, **options}
    described = {
        "experiment": experiment,
        "label": f"lstm-{norm}-seed{seed}",
        "summary": "pixels <in order>",
        "paper": "Cooijmans et al. 2017, 5.1",
        "target": "Table 1",
        "changed": {"norm": norm, **options},
        "config": config,
    }
    if report is not None:
        described["report"] = report
    start = {
        "started": started or f"2026-01-01T00:00:00+00:00 {folder}",
        "processor": "x",
        "threads": 1,
        "device": "cpu",
        "versions": {"torch": "2.13.0"},
        "commit": "abc",
        "command": "bnrnn run this",
        "planned_updates": 100_000,
    }
    updates = max((row["update"] for row in rows), default=0)
    content = {
        "status": "complete" if complete else "partial",
        "updates": updates,
        "planned_updates": updates if complete else 100_000,
        "seconds": 500.0,
        "selected": {"update": selected, "by": "error", "value": 0.3},
        "evaluation": evaluation or {},
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "environment.json").write_text(json.dumps([start]))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def single(folder: Path, *positional: Any, **told: Any) -> Group:
    """A group of one run."""
    return Group((read_run(write_run(folder, *positional, **told)),))
