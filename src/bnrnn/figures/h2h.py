"""Normalization from hidden to hidden state against its baseline: Laurent et al. 2015, section 4 and Figure 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

EPOCHS = (0, 1, 2, 5, 10, 15, 20)
EXAMPLE = {
    "baseline": (4.15, 2.61, 2.38, 2.13, 1.97, 1.87, 1.81),
    "BN": (4.28, 3.12, 2.74, 2.36, 2.11, 1.98, 1.90),
}
"""Figure 1, training cross-entropy in nats at the end of each epoch, read off the picture."""


@dataclass(frozen=True)
class Pair:
    """Two runs of one draw.

    Attributes:
        learning_rate: drawn.
        baseline, normalized: last training loss, None where the run diverged.
        curves: training loss over updates of both, the baseline's first.
    """

    learning_rate: float
    baseline: float | None
    normalized: float | None
    curves: tuple[tuple[Sequence[int], Sequence[float]], tuple[Sequence[int], Sequence[float]]]


def h2h_figure(pairs: Sequence[Pair], epoch: int = 791) -> Figure:
    """Final loss of one against the other, and the curves of the pair with the best baseline over the paper's example.

    Args:
        pairs: of the search.
        epoch: updates of an epoch, in which the paper's example is drawn.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    scatter, example = figure.subplots(1, 2)
    both = [
        (pair.baseline, pair.normalized) for pair in pairs if pair.baseline is not None and pair.normalized is not None
    ]
    values = [value for pair in both for value in pair]
    low, high = (min(values), max(values)) if values else (1.0, 4.0)
    edge = high * 1.15
    scatter.set(xscale="log", yscale="log")
    scatter.plot([low, edge], [low, edge], color="#888a85", linewidth=0.8)
    scatter.plot([a for a, _ in both], [b for _, b in both], "o", color="#cc4e00", alpha=0.75, markersize=5)
    for pair in pairs:
        if pair.baseline is None or pair.normalized is None:
            place = (
                edge if pair.baseline is None else pair.baseline,
                edge if pair.normalized is None else pair.normalized,
            )
            scatter.plot(*place, "x", color="#a40000", markersize=6)
    lost = sum(pair.baseline is None for pair in pairs), sum(pair.normalized is None for pair in pairs)
    scatter.set_title(f"{len(pairs)} draws; at the edge, diverged: baseline {lost[0]}, BN {lost[1]}", fontsize=10)
    ticks = [tick for tick in (1, 1.5, 2, 3, 4, 6, 10, 20, 40, 100) if low / 1.1 <= tick <= edge]
    for axis in (scatter.xaxis, scatter.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    scatter.set_xlabel("baseline, last training loss (nats)")
    scatter.set_ylabel("BN, last training loss (nats)")

    finished = [pair for pair in pairs if pair.baseline is not None]
    if finished:
        best = min(finished, key=lambda pair: pair.baseline or 0.0)
        for (updates, losses), name, colour in zip(
            best.curves, ("baseline", "BN"), ("#3465a4", "#cc4e00"), strict=True
        ):
            example.plot([u / epoch for u in updates], losses, color=colour, linewidth=1.8, label=f"{name}, ours")
        end = max((updates[-1] / epoch for updates, _ in best.curves if len(updates)), default=0.0)
        for (name, losses), colour in zip(EXAMPLE.items(), ("#3465a4", "#cc4e00"), strict=True):
            example.plot(EPOCHS, losses, "--", color=colour, linewidth=1.0, label=f"{name}, the paper's example")
        example.set_xlim(0, max(1.0, end * 1.05))
    example.set_title("the draw with the best baseline", fontsize=10)
    example.set_xlabel("epochs")
    example.set_ylabel("training cross-entropy, nats")
    example.legend(fontsize=8, frameon=False)
    for axes in (scatter, example):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
