"""The runs of the search of hidden-to-hidden normalization, as pairs of one draw."""

from __future__ import annotations

from collections.abc import Iterable

from bnrnn.figures.h2h import Pair
from bnrnn.report.runs import Run

DRAWN = ("learning_rate", "momentum", "batch_size", "seed")


def paired(runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Baseline and normalized run of each draw of which both have come to an end, by rising learning rate."""
    draws: dict[tuple[float, ...], dict[str, Run]] = {}
    for run in runs:
        if run.experiment == "h2h" and (run.result or run.divergence):
            draws.setdefault(tuple(run.config["config"][name] for name in DRAWN), {})[run.norm] = run
    return [(pair["none"], pair["summed"]) for _, pair in sorted(draws.items()) if {"none", "summed"} <= pair.keys()]


def last_loss(run: Run) -> float | None:
    """The last training loss, None of a run that diverged."""
    rows = run.training("loss")
    return rows[-1].value if run.divergence is None and rows else None


def search_pairs(runs: Iterable[Run]) -> list[Pair]:
    """What the figure shows of each draw."""
    return [
        Pair(
            plain.config["config"]["learning_rate"], last_loss(plain), last_loss(other), (_curve(plain), _curve(other))
        )
        for plain, other in paired(runs)
    ]


def _curve(run: Run) -> tuple[list[int], list[float]]:
    rows = run.training("loss")
    return [row.update for row in rows], [row.value for row in rows]
