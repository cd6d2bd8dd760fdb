"""``bnrnn figure tanh-derivative``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnrnn.cli.parsing import parse

SUMMARY = "the derivative of tanh over the deviation of its input (Cooijmans et al. 2017, Figure 2b)"


@dataclass(frozen=True)
class TanhDerivative:
    """Draw mean and quartiles of tanh's derivative for a normal input: exact, and of samples."""

    deviations: int = 1000
    """Standard deviations, equally spaced from 0."""
    samples: int = 1000
    """Samples at each."""
    largest: float = 1.0
    """The largest standard deviation."""
    seed: int = 1
    """Of the samples."""
    out: Path = Path("tanh-derivative.png")
    """PNG or SVG file to write; its numbers go beside it as CSV."""


def run(arguments: list[str]) -> int:
    chosen = parse(TanhDerivative, arguments, "bnrnn figure tanh-derivative")
    from bnrnn.experiments.analyses.tanh_derivative import tanh_derivative
    from bnrnn.figures.files import write_figure
    from bnrnn.figures.tanh_derivative import tanh_derivative_figure

    found = tanh_derivative(chosen.deviations, chosen.samples, chosen.largest, chosen.seed)
    columns = {"deviation": found.deviations, **{k: v for k, v in vars(found).items() if k != "deviations"}}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    write_figure(chosen.out, tanh_derivative_figure(columns), list(columns), rows)
    print(chosen.out)
    return 0
