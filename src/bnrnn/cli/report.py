"""``bnrnn report``."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

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
    figures: Path | None = None
    """Folder of the analyses' figures; with it the page has them, and the papers' claims with their verdicts."""


def run(arguments: list[str]) -> int:
    chosen = parse(Report, arguments, "bnrnn report")
    from bnrnn.report.page import write_report
    from bnrnn.report.runs import find_runs, read_run
    from bnrnn.report.terminal import summary_text

    runs = [read_run(path) for path in chosen.runs] if chosen.runs else find_runs()
    page = write_report(runs, chosen.out, f"bnrnn report {shlex.join(arguments)}".rstrip(), chosen.figures)
    print(summary_text(runs, shutil.get_terminal_size().columns))
    print(f"report: {page}")
    return 0
