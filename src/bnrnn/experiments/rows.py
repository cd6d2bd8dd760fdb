"""What batch statistics are worth, over the number of rows that they are taken of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from bnrnn.experiments.opened import OpenedRun, open_run
from bnrnn.training import Metrics, Purpose, RunError, seed_of
from bnrnn.training.evaluation import evaluate_statistics, has_batch_statistics, with_population_statistics

ROWS = (25, 50, 100, 200, 500, 1000, 2000, 5000)


def measure(
    path: Path,
    rows: Sequence[int] = ROWS,
    model: Literal["best", "last"] = "best",
    device: str = "auto",
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluates a run's model on the validation part with the statistics of batches of each number of rows.

    The more rows, the nearer to the population's statistics, whose value is the limit; it is measured too. A curve of
    batch statistics compares with another one at equal rows only. What is found is returned and written to
    ``rows.json`` in the run folder.

    Args:
        path: run folder of a batch-normalized model.
        rows: numbers of rows; what the validation part has not is left out.
        model: the selected model so far, or the one that the run has come to.
        device: where to compute.
        tell: is called with a line for each number.

    Raises:
        RunError: no such run, or nothing in it depends on the rows.
        ValueError: a number of rows below 2, or none that the validation part has.
    """
    few = [count for count in rows if count < 2]
    if few:
        raise ValueError(f"rows must be at least 2, got {few[0]}: one row has no batch statistics")
    run = open_run(path, model, device)
    task = run.task
    if not has_batch_statistics(task.model):
        raise RunError(f"{path} has no batch normalization: none of its numbers depends on the rows")
    if "rows" not in inspect.signature(task.evaluate).parameters:
        raise RunError(f"{path} is a run of {run.experiment.name}, whose evaluation knows no number of rows")
    most = task.most_rows("valid")
    kept = [count for count in rows if count <= most]
    if not kept:
        raise ValueError(f"rows must be at most {most:,}, what the validation part has")
    headline = run.experiment.judgement.headline
    found: list[Metrics] = []
    with run.fabric.autocast():
        for count in kept:
            with evaluate_statistics(task.model, "batch"):
                found.append(_evaluate(run, task.model, "batch", count))
            tell(f"{count:,} rows: {headline} {found[-1][headline]:.4f}")
        judged = with_population_statistics(task, task.model, run.fabric.device)
        with evaluate_statistics(judged, "population"):
            limit = _evaluate(run, judged, "population", None)
    tell(f"population statistics: {headline} {limit[headline]:.4f}")
    record = {
        "update": run.update,
        "norm": getattr(run.config, "norm", None),
        "rows": kept,
        "metrics": {name: [metrics[name] for metrics in found] for name in found[0]},
        "population": limit,
        "population_rows": task.rows("valid", "population"),
    }
    run.folder.write_json(path / "rows.json", record)
    return record


def _evaluate(run: OpenedRun, model: Any, statistics: str, rows: int | None) -> Metrics:
    torch.manual_seed(seed_of(run.task.seed, Purpose.EVALUATION))
    return run.task.evaluate(model, "valid", statistics, rows)
