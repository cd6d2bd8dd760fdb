"""``bnrnn figure gamma-sensitivity``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "learning curves for several initial gains (Cooijmans et al. 2017, Figure 7)"


@dataclass(frozen=True)
class GammaSensitivity:
    """Draw the curves of runs that differ in --gamma over the paper's: pmnist, ptb-char, or both."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of pmnist or ptb-char with --norm recurrent, those of a sweep for instance."""
    as_published: bool = False
    """The Penn Treebank on the published axes, which show nats over updates / ln 2 under a label of bits."""
    out: Path = Path("gamma-sensitivity.png")
    """PNG or SVG file to write; its numbers go beside it as CSV."""


def run(arguments: list[str]) -> int:
    chosen = parse(GammaSensitivity, arguments, "bnrnn figure gamma-sensitivity")
    if not chosen.runs:
        raise UsageError("bnrnn figure gamma-sensitivity needs at least one run folder")
    from bnrnn.figures.files import write_figure
    from bnrnn.figures.gamma_sensitivity import gamma_sensitivity_figure
    from bnrnn.report.gammas import gamma_panels
    from bnrnn.report.runs import read_run

    panels = gamma_panels([read_run(path) for path in chosen.runs])
    rows = [
        (task, part, curve.gamma, update, value)
        for (task, part), curves in panels.items()
        for curve in curves
        for update, value in zip(curve.updates, curve.values, strict=True)
    ]
    figure = gamma_sensitivity_figure(panels, chosen.as_published)
    write_figure(chosen.out, figure, ("task", "part", "gamma", "update", "cross-entropy (nats) or bits"), rows)
    print(chosen.out)
    return 0
