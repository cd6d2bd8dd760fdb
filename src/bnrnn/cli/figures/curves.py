"""``bnrnn figure curves``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "validation curves of runs over the paper's own"


@dataclass(frozen=True)
class Curves:
    """Draw the validation curves of runs of one experiment over the paper's own."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of one experiment."""
    out: Path = Path("curves.png")
    """PNG file to write."""


def run(arguments: list[str]) -> int:
    chosen = parse(Curves, arguments, "bnrnn figure curves")
    from bnrnn.report.page import curve_figure
    from bnrnn.report.runs import read_run

    runs = [read_run(path) for path in chosen.runs]
    experiments = sorted({found.experiment for found in runs})
    if len(experiments) != 1:
        got = ", ".join(experiments) or "none"
        raise UsageError(f"name run folders of one experiment, got {got}; see bnrnn figure curves --help")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_bytes(curve_figure(runs))
    print(chosen.out)
    return 0
