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
    """PNG or SVG file to write."""


def run(arguments: list[str]) -> int:
    chosen = parse(Curves, arguments, "bnrnn figure curves")
    from bnrnn.figures.files import save
    from bnrnn.report.groups import group
    from bnrnn.report.pictures import curve_picture
    from bnrnn.report.runs import read_run

    runs = [read_run(path) for path in chosen.runs]
    experiments = sorted({found.experiment for found in runs})
    if len(experiments) != 1:
        got = ", ".join(experiments) or "none"
        raise UsageError(f"name run folders of one experiment, got {got}; see bnrnn figure curves --help")
    picture = curve_picture(group(runs))
    save(picture.figure, chosen.out)
    for note in picture.notes:
        print(note)
    print(chosen.out)
    return 0
