"""``bnrnn figure population-statistics``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from bnrnn.cli.parsing import parse

SUMMARY = "population statistics over time steps (Cooijmans et al. 2017, Figure 6)"


@dataclass(frozen=True)
class PopulationStatistics:
    """Draw mean and variance of the recurrent product and of the cell over time steps, for some units."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run with frame-wise statistics at these sites."""
    layer: str = "l0"
    """Layer and direction, as l0 or l1_reverse."""
    units: int = 30
    """Features to draw at random."""
    seed: int = 1
    """Of that draw."""
    steps: int | None = None
    """The first steps only; by default all in use."""
    out: Path = Path("population-statistics.png")
    """PNG or SVG file to write; its numbers go beside it as CSV."""


def run(arguments: list[str]) -> int:
    chosen = parse(PopulationStatistics, arguments, "bnrnn figure population-statistics")
    from bnrnn.experiments.analyses.population_statistics import population_tables
    from bnrnn.figures.files import write_figure
    from bnrnn.figures.population_statistics import population_statistics_figure

    tables = population_tables(chosen.run, chosen.layer, chosen.units, chosen.seed)
    figure = population_statistics_figure([(t.site, t.mean.numpy(), t.var.numpy()) for t in tables], chosen.steps)
    rows = (
        (table.site, unit, step + 1, table.mean[step, column].item(), table.var[step, column].item())
        for table in tables
        for column, unit in enumerate(table.units)
        for step in range(len(table.mean))
    )
    write_figure(chosen.out, figure, ("site", "unit", "step", "mean", "variance"), rows)
    print(chosen.out)
    return 0
