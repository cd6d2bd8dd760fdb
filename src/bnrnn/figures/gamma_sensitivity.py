"""Learning curves for several initial gains: Cooijmans et al. 2017, appendix B, Figure 7."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.figure import Figure

from bnrnn.figures.paper_analyses import paper_gamma_curves

NOTE = (
    "The published panels of the Penn Treebank divide the updates by ln 2 and show nats under a label of bits;\n"
    "here the paper's curves are in bits over true updates"
)


@dataclass(frozen=True)
class GammaCurve:
    """One run's curve in one panel.

    Attributes:
        gamma: initial gain.
        updates, values: the points, cross-entropy in nats or bits as the panel has it.
    """

    gamma: float
    updates: Sequence[int]
    values: Sequence[float]


def gamma_sensitivity_figure(
    panels: Mapping[tuple[str, str], Sequence[GammaCurve]], as_published: bool = False
) -> Figure:
    """A row of panels for each task, training and validation, ours over the paper's.

    Args:
        panels: by task (``"pmnist"`` or ``"ptb-char"``) and part (``"train"`` or ``"valid"``).
        as_published: draw the Penn Treebank's panels on the published axes: nats over updates / ln 2.
    """
    tasks = list(dict.fromkeys(task for task, _ in panels))
    figure = Figure(figsize=(9.0, 3.6 * len(tasks)), layout="constrained")
    rows = figure.subplots(len(tasks), 2, squeeze=False)
    colours = colormaps["viridis"]
    for row, task in zip(rows, tasks, strict=True):
        bits = task.startswith("ptb")
        stretch, unit = (1 / math.log(2), math.log(2)) if bits and as_published else (1.0, 1.0)
        for axes, part in zip(row, ("train", "valid"), strict=True):
            ours = panels.get((task, part), ())
            end = max((x for curve in ours for x in curve.updates), default=0) * 1.05
            for curve in ours:
                colour = colours(min(curve.gamma, 1.0) * 0.92)
                points = _trained(curve.updates, curve.values, end)
                axes.plot(
                    [x * stretch for x, _ in points],
                    [y * unit for _, y in points],
                    color=colour,
                    linewidth=1.8,
                    marker="o" if len(points) <= 10 else None,
                    markersize=4,
                    label=f"gamma {curve.gamma:g}",
                )
            for gamma, curve in paper_gamma_curves(task, part).items():  # pyright: ignore[reportArgumentType]
                points = _trained(curve.updates, curve.values, end)
                axes.plot(
                    [x * stretch for x, _ in points],
                    [y * unit for _, y in points],
                    color=colours(min(gamma, 1.0) * 0.92),
                    linestyle="--",
                    linewidth=1.0,
                    marker="x" if len(points) <= 10 else None,
                    markersize=4,
                    alpha=0.8,
                )
            axes.plot([], [], color="#555753", linestyle="--", linewidth=1.0, label="the paper's")
            published = ", as published" if bits and as_published else ""
            axes.set_title(f"{task}: {'training' if part == 'train' else 'validation'}{published}", fontsize=11)
            axes.set_xlabel("updates / ln 2" if published else "updates")
            axes.set_ylabel("bits per character" if bits and not as_published else "cross-entropy, nats")
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        row[1].legend(fontsize=8, frameon=False)
    if any(task.startswith("ptb") for task in tasks):
        figure.supxlabel(NOTE if not as_published else "Axes as published", fontsize=8, color="#555753")
    return figure


def _trained(updates: Sequence[int], values: Sequence[float], end: float) -> list[tuple[int, float]]:
    """The points up to an update, all where it is 0, without the untrained model's: its bits would press the others
    together."""
    return [(x, y) for x, y in zip(updates, values, strict=True) if x > 0 and (not end or x <= end)]
