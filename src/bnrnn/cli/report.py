"""``bnrnn report``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from bnrnn.cli.parsing import parse

SUMMARY = "write tables, curves and one HTML page from run folders"


@dataclass(frozen=True)
class Report:
    """Write a page with curves over the paper's own, tables and settings of runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders; by default all below runs/ and records/."""
    out: Path = Path("report")
    """Folder for the page and its pictures."""


def run(arguments: list[str]) -> int:
    chosen = parse(Report, arguments, "bnrnn report")
    from bnrnn.report.page import write_report
    from bnrnn.report.runs import find_runs, read_run

    runs = [read_run(path) for path in chosen.runs] if chosen.runs else find_runs()
    page = write_report(runs, chosen.out, f"bnrnn report {shlex.join(arguments)}".rstrip())
    _print_summary(runs)
    print(f"report: {page}")
    return 0


def _print_summary(runs: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from bnrnn.report.page import summary_table

    head, rows = summary_table(runs)
    # a terminal has no room for all of the overview's columns, nor for their full names
    shown = {
        "updates": "updates",
        "validation": "validation",
        "paper there": "paper",
        "difference": "difference",
        "test (population)": "test",
        "paper's test": "paper",
    }
    table = Table(
        box=None,
        pad_edge=False,
        caption="validation: batch statistics, at our last update (words: the selected model's); "
        "test: population statistics, selected model",
        caption_justify="left",
    )
    table.add_column("run", no_wrap=True)
    for name in shown.values():
        table.add_column(name, justify="right")
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        table.add_row(cells["run"].replace(" ", "\n", 1), *(cells[name] for name in shown))
    Console().print(table)
