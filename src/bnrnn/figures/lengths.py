"""Bits per character over the length of the test sequences: Cooijmans et al. 2017, Figure 4b."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from bnrnn.figures.curves import colours, framed, key
from bnrnn.figures.paper import PaperLengths

_MARKERS = {"population": "o", "batch": "x"}


def lengths_figure(
    records: Sequence[tuple[str, Mapping[str, Any]]], title: str, paper: Sequence[PaperLengths] = ()
) -> Figure:
    """Draws what ``lengths.json`` of some runs holds, over the paper's own curves of the same models.

    Args:
        records: name and content of each.
        title: above the figure.
        paper: the paper's curves.
    """
    figure, axes = framed(title, "symbols in a piece", "test bits per character by length of the pieces")
    named = {f"{run}, {record['update']:,} updates": record for run, record in records}
    colour = colours((name, record["norm"]) for name, record in named.items())
    for name, record in named.items():
        for kind, values in record["bpc"].items():
            axes.plot(
                record["lengths"],
                values,
                color=colour[name],
                marker=_MARKERS[kind],
                markersize=4,
                linewidth=1.9 if kind == "population" else 1.2,
            )
    norms = {record["norm"]: colour[name] for name, record in reversed(named.items())}
    drawn = [curve for curve in paper if curve.variant in norms]
    for curve in drawn:
        axes.plot(
            curve.lengths,
            curve.values,
            color=norms[curve.variant],
            marker=_MARKERS[curve.statistics],
            markersize=3,
            linestyle="--",
            linewidth=1.1,
            alpha=0.8,
        )
    kinds = {kind for record in named.values() for kind in record["bpc"]}
    styles = {f"{kind} statistics": {"marker": _MARKERS[kind], "markersize": 4} for kind in _MARKERS if kind in kinds}
    if drawn:
        styles["paper, at the end of its run"] = {"linestyle": "--"}
    key(figure, {name: colour[name] for name in named}, styles)
    return figure
