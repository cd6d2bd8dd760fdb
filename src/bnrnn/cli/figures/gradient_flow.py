"""``bnrnn figure gradient-flow``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bnrnn.cli.parsing import parse

SUMMARY = "how far back in time the loss reaches, by initial gain (Cooijmans et al. 2017, Figure 2a)"


@dataclass(frozen=True)
class GradientFlow:
    """Draw the norm of the loss's derivative with respect to the hidden state over time steps, before training."""

    net: Literal["bn-rnn", "rnn", "bn-lstm", "lstm", "bn-gru", "gru"] = "bn-rnn"
    """The paper's tanh RNN with one normalization of the sum, or another net."""
    run: Path | None = None
    """A trained run of a pixel experiment in place of untrained nets; its own options hold."""
    gammas: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Initial gains."""
    units: int = 100
    """Hidden units."""
    batch_size: int = 100
    """Images."""
    seed: int = 1
    """Of weights, batch and noise."""
    precision: Literal["float64", "float32"] = "float64"
    """The published figure is of float32, whose lower part underflows."""
    initial_state: Literal["noise", "mean-pixel", "learnt"] = "noise"
    """What makes the first states differ, where all images are alike."""
    noise: float = 0.1
    """Its standard deviation."""
    input_norm: float = 0.5
    """Norm of the RNN's input weights: 0.5, with which the published curves are met, or 1, an orthogonal column."""
    data: Literal["mnist", "digits"] = "mnist"
    """Images, in scan order."""
    out: Path = Path("gradient-flow.png")
    """PNG or SVG file to write; its numbers go beside it as CSV."""


def run(arguments: list[str]) -> int:
    chosen = parse(GradientFlow, arguments, "bnrnn figure gradient-flow")
    from bnrnn.experiments.analyses.gradient_flow import at_initialization, of_run
    from bnrnn.figures.files import write_figure
    from bnrnn.figures.gradient_flow import gradient_flow_figure

    if chosen.run is not None:
        flows = [of_run(chosen.run, chosen.precision)]
    else:
        flows = at_initialization(
            chosen.net,
            chosen.gammas,
            units=chosen.units,
            batch_size=chosen.batch_size,
            seed=chosen.seed,
            precision=chosen.precision,
            initial_state=chosen.initial_state,
            noise=chosen.noise,
            input_norm=chosen.input_norm,
            data=chosen.data,
        )
    paper = chosen.run is None and chosen.net == "bn-rnn" and chosen.data == "mnist"
    figure = gradient_flow_figure([(flow.name, flow.gamma, flow.norms) for flow in flows], paper)
    rows = zip(range(len(flows[0].norms)), *(flow.norms for flow in flows), strict=True)
    write_figure(chosen.out, figure, ["step", *(flow.name for flow in flows)], rows)
    print(chosen.out)
    return 0
