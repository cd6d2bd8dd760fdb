"""Runs that differ in their initial gain, as the figure of the sensitivity to gamma takes them."""

from __future__ import annotations

from collections.abc import Sequence

from bnrnn.figures.gamma_sensitivity import GammaCurve
from bnrnn.report.runs import Run

METRICS = {"pmnist": "loss", "ptb-char": "bpc"}
DEFAULT = 0.1  # of the normalization "recurrent"


def gamma_panels(runs: Sequence[Run]) -> dict[tuple[str, str], list[GammaCurve]]:
    """Training and validation curves by task and part, in the order of the gains.

    Raises:
        ValueError: a run of another experiment or of another norm.
    """
    panels: dict[tuple[str, str], list[GammaCurve]] = {}
    for run in sorted(runs, key=gain_of):
        if run.experiment not in METRICS or run.norm != "recurrent":
            raise ValueError(
                f"{run.path} is a run of {run.experiment} with norm {run.norm}; the figure takes runs of"
                f" {' and '.join(METRICS)} with norm recurrent"
            )
        metric = METRICS[run.experiment]
        for part, points in (("train", run.training(metric)), ("valid", run.evaluations(metric, "batch"))):
            curve = ([point.update for point in points], [point.value for point in points])
            panels.setdefault((run.experiment, part), []).append(GammaCurve(gain_of(run), *curve))
    return panels


def gain_of(run: Run) -> float:
    """The initial gain of a run of the normalization "recurrent"."""
    gamma = run.config["config"].get("gamma")
    return DEFAULT if gamma is None else gamma
