"""``bnrnn figure rows``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError
from bnrnn.experiments.rows import ROWS

SUMMARY = "a validation metric over the number of rows that batch statistics are taken of"


@dataclass(frozen=True)
class Rows:
    """Evaluate batch-normalized models with the statistics of batches of several sizes, and draw that with the
    population statistics' value as the limit and the paper's value as a line."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of one experiment; each gets its numbers as rows.json."""
    rows: tuple[int, ...] = ROWS
    """Numbers of rows."""
    metric: str | None = None
    """What to draw; by default what the experiment is judged by."""
    model: Literal["best", "last"] = "best"
    """The selected model, or the one the run has come to."""
    out: Path = Path("rows.png")
    """PNG or SVG file to write; its numbers are written beside it as CSV."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""


def run(arguments: list[str]) -> int:
    chosen = parse(Rows, arguments, "bnrnn figure rows")
    from bnrnn.experiments.rows import measure
    from bnrnn.figures.files import write_figure
    from bnrnn.report.pictures import rows_picture
    from bnrnn.report.runs import read_run

    experiments = sorted({read_run(path).experiment for path in chosen.runs})
    if len(experiments) != 1:
        got = ", ".join(experiments) or "none"
        raise UsageError(f"name run folders of one experiment, got {got}; see bnrnn figure rows --help")
    records = {path: measure(path, chosen.rows, chosen.model, chosen.device) for path in chosen.runs}
    figure = rows_picture([read_run(path) for path in chosen.runs], chosen.metric)
    names = list(dict.fromkeys(name for record in records.values() for name in record["metrics"]))
    numbers = [
        [path.name, record["update"], rows, *(values[name] for name in names)]
        for path, record in records.items()
        for rows, values in _by_rows(record)
    ]
    write_figure(chosen.out, figure, ("run", "update", "rows", *names), numbers)
    print(chosen.out)
    return 0


def _by_rows(record: dict[str, Any]) -> list[tuple[int | str, dict[str, float]]]:
    """The metrics at each number of rows, and of the population statistics."""
    found = [
        (rows, {name: values[index] for name, values in record["metrics"].items()})
        for index, rows in enumerate(record["rows"])
    ]
    return [*found, ("population", record["population"])]
