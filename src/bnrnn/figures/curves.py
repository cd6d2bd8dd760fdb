"""Learning curves, ours over the paper's own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

COLOURS = {
    "none": "#3465a4",
    "recurrent": "#cc4e00",
    "layer": "#4e9a06",
    "input-frame": "#75507b",
    "input-sequence": "#ad7fa8",
    "sequence-input": "#8f5902",
    "summed": "#2e3436",
}


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Args:
        name: for the legend.
        norm: chooses the colour.
        updates, values: the points.
        paper: the paper's own, drawn thin and dashed.
    """

    name: str
    norm: str
    updates: Sequence[int]
    values: Sequence[float]
    paper: bool = False


def learning_curves(
    curves: Sequence[Curve], title: str, axis: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Curves over updates, to a little beyond where ours end: that is where they can be compared.

    Args:
        curves: ours and the paper's.
        title: above the figure.
        axis: label of the vertical axis.
        limits: of the vertical axis, None for what the curves need.
    """
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    ours = [curve.updates[-1] for curve in curves if not curve.paper and len(curve.updates)]
    end = max(ours, default=0) * 1.05
    for curve in curves:
        points = [(x, y) for x, y in zip(curve.updates, curve.values, strict=True) if not end or x <= end]
        marker = "o" if not curve.paper and len(points) <= 25 else None
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=curve.name,
            color=COLOURS.get(curve.norm, "#555753"),
            marker=marker,
            markersize=3,
            linestyle="--" if curve.paper else "-",
            linewidth=1.1 if curve.paper else 1.9,
            alpha=0.75 if curve.paper else 1.0,
        )
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("updates")
    axes.set_ylabel(axis)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    if limits is not None:
        axes.set_ylim(limits)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as a PNG file's content."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()
