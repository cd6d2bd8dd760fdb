"""Bits per character over the length of the test sequences: Cooijmans et al. 2017, Figure 4b."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnrnn.figures.curves import colours, framed, plain
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
    entries = [Line2D([], [], color=colour[name], linewidth=4, label=plain(name)) for name in named]
    kinds = {kind for record in named.values() for kind in record["bpc"]}
    if len(kinds) > 1:
        entries += [
            Line2D([], [], color="#555753", marker=_MARKERS[kind], markersize=4, label=f"{kind} statistics")
            for kind in _MARKERS
            if kind in kinds
        ]
    if drawn:
        entries.append(Line2D([], [], color="#555753", linestyle="--", label="paper, at the end of its run"))
    figure.legend(handles=entries, loc="outside lower left", ncols=1, fontsize=8.5, frameon=False)
    return figure
