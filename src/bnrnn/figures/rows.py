"""A validation metric over the number of rows that batch statistics are taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bnrnn.figures.curves import colours, framed, key


@dataclass(frozen=True)
class PaperPoint:
    """The paper's value at the same update, and the rows that it was taken over; none where the sources do not say."""

    model: str
    value: float
    rows: tuple[int, ...]


def rows_figure(
    records: Sequence[tuple[str, Mapping[str, Any]]],
    metric: str,
    title: str,
    axis: str,
    paper: Sequence[PaperPoint] = (),
) -> Figure:
    """Draws what ``rows.json`` of some runs holds: the metric over rows, the population statistics' value as the limit.

    Args:
        records: name and content of each.
        metric: which of the measured ones.
        title: above the figure.
        axis: the metric's name.
        paper: the paper's values, a line each, with a mark at the paper's own number of rows.

    Raises:
        ValueError: the metric has not been measured.
    """
    figure, axes = framed(title, "rows of the batch statistics", axis)
    colour = colours((name, record["norm"]) for name, record in records)
    for name, record in records:
        if metric not in record["metrics"]:
            raise ValueError(f"{name} has no {metric} by rows; there are {', '.join(record['metrics'])}")
        axes.plot(
            record["rows"], record["metrics"][metric], color=colour[name], marker="o", markersize=4, linewidth=1.9
        )
        if (limit := (record["population"] or {}).get(metric)) is not None:
            axes.axhline(limit, color=colour[name], linestyle=":", linewidth=1.3)
    for point in paper:
        axes.axhline(point.value, color=colour[point.model], linestyle="--", linewidth=1.1, alpha=0.8)
        axes.plot(point.rows, [point.value] * len(point.rows), color=colour[point.model], marker="D", linestyle="")
    axes.set_xscale("log")
    ticks = sorted({rows for _, record in records for rows in record["rows"]})
    axes.set_xticks(ticks[:: max(1, -(-len(ticks) // 8))])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.minorticks_off()
    styles: dict[str, dict[str, Any]] = {"batch statistics": {"marker": "o", "markersize": 4}}
    if any(record["population"] for _, record in records):
        styles["population statistics"] = {"linestyle": ":"}
    if paper:
        told = "paper at that update, at its number of rows" if any(point.rows for point in paper) else "paper"
        styles[told] = {"linestyle": "--", "marker": "D", "markersize": 4}
    key(figure, {f"{name}, update {record['update']:,}": colour[name] for name, record in records}, styles)
    return figure
