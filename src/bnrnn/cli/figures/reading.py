"""``bnrnn figure reading``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "error of readers over updates, a panel for each data set"


@dataclass(frozen=True)
class Reading:
    """Draw the validation and training error of reading runs over updates, as Figure 5 of Cooijmans et al. 2017."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of reading experiments; each data set gets a panel."""
    out: Path = Path("reading.png")
    """PNG or SVG file to write."""


def run(arguments: list[str]) -> int:
    chosen = parse(Reading, arguments, "bnrnn figure reading")
    if not chosen.runs:
        raise UsageError("bnrnn figure reading needs at least one run folder")
    from bnrnn.figures.files import save
    from bnrnn.figures.reading import COLOURS, Reader, reading_figure
    from bnrnn.report.runs import read_run

    panels: dict[str, list[Reader]] = {}
    for path in chosen.runs:
        found = read_run(path)
        facts = found.config.get("report", {})
        if facts.get("variant") not in COLOURS:
            raise UsageError(f"{path} is a run of {found.experiment}, which is no reading experiment")
        title = " ".join(filter(None, (found.experiment, facts.get("group"))))
        valid, train = found.evaluations("error", "batch"), found.training("error")
        reader = Reader(
            facts["variant"],
            ([point.update for point in valid], [point.value for point in valid]),
            ([point.update for point in train], [point.value for point in train]),
        )
        panels.setdefault(title, []).append(reader)
    order = list(COLOURS)
    figure = reading_figure(
        [(title, sorted(readers, key=lambda reader: order.index(reader.variant))) for title, readers in panels.items()]
    )
    save(figure, chosen.out)
    print(chosen.out)
    return 0
