"""Bits per character over the length of the test sequences: Cooijmans et al. 2017, Figure 4b."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from bnrnn.figures.curves import COLOURS
from bnrnn.figures.paper import paper_lengths

_MARKERS = {"population": "o", "batch": "x"}


def lengths_figure(records: Sequence[tuple[str, Mapping[str, Any]]]) -> Figure:
    """Draws what ``lengths.json`` of some runs holds, over the paper's own curves.

    Args:
        records: name and content of each.
    """
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for run, record in records:
        name = f"{run}, {record['update']:,} updates"
        for kind, values in record["bpc"].items():
            axes.plot(
                record["lengths"],
                values,
                label=f"{name}, {kind}" if len(record["bpc"]) > 1 else name,
                color=COLOURS.get(record["norm"], "#555753"),
                marker=_MARKERS[kind],
                markersize=4,
                linewidth=1.9,
            )
    for curve in paper_lengths():
        axes.plot(
            curve.lengths,
            curve.values,
            label=curve.name,
            color=COLOURS[curve.norm],
            marker=_MARKERS[curve.statistics],
            markersize=3,
            linestyle="--",
            linewidth=1.1,
            alpha=0.75,
        )
    axes.set_title("Test bits per character on pieces of the test part", fontsize=11)
    axes.set_xlabel("symbols in a piece")
    axes.set_ylabel("bits per character")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure
