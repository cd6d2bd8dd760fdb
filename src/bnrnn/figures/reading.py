"""Readers of one variant each: the error over updates, as Figure 5 of Cooijmans et al. 2017 has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

COLOURS = {
    "LSTM": "#3465a4",
    "BN-LSTM": "#cc4e00",
    "BN-everywhere": "#75507b",
    "BN-e*": "#4e9a06",
    "BN-e**": "#a40000",
}


@dataclass(frozen=True)
class Reader:
    """The curves of one run.

    Args:
        variant: as the paper calls it.
        valid: updates and validation errors, with batch statistics.
        train: updates and training errors.
    """

    variant: str
    valid: tuple[Sequence[int], Sequence[float]]
    train: tuple[Sequence[int], Sequence[float]]


def reading_figure(panels: Sequence[tuple[str, Sequence[Reader]]]) -> Figure:
    """A panel for each data set: solid the validation error, dotted the training error.

    Args:
        panels: title and readers of each.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows + 0.5), layout="constrained")
    shown: dict[str, str] = {}
    for place, (title, readers) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        for reader in readers:
            colour = shown.setdefault(reader.variant, COLOURS.get(reader.variant, "#555753"))
            axes.plot(*reader.valid, color=colour, linewidth=1.7)
            axes.plot(*reader.train, color=colour, linewidth=1.3, linestyle=":")
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel("updates", fontsize=9)
        axes.set_ylabel("error rate", fontsize=9)
        axes.tick_params(labelsize=8.5)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    names = [name for name in (*COLOURS, *shown) if name in shown]
    entries = [Line2D([], [], color=shown[name], linewidth=3, label=name) for name in dict.fromkeys(names)]
    entries += [
        Line2D([], [], color="#555753", linewidth=1.7, label="validation"),
        Line2D([], [], color="#555753", linewidth=1.3, linestyle=":", label="training"),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=4, fontsize=8.5, frameon=False)
    return figure
