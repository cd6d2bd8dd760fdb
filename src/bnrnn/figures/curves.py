"""Learning curves, ours over the paper's own."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bnrnn.figures.files import SIZE

COLOURS = {
    "none": "#3465a4",
    "recurrent": "#cc4e00",
    "layer": "#4e9a06",
    "input-frame": "#75507b",
    "input-sequence": "#ad7fa8",
    "sequence-input": "#8f5902",
    "summed": "#2e3436",
}
_OTHERS = ("#4e9a06", "#c17d11", "#a40000", "#06989a", "#75507b", "#555753", "#8f5902", "#5c3566")

Style = Literal["ours, validation", "ours, training", "ours, other rows", "paper, validation", "paper, training"]
_STYLES: dict[Style, dict[str, Any]] = {
    "ours, validation": {"linestyle": "-", "linewidth": 1.9},
    "ours, training": {"linestyle": ":", "linewidth": 1.5},
    "ours, other rows": {"linestyle": "-", "linewidth": 1.0, "alpha": 0.5},
    "paper, validation": {"linestyle": "--", "linewidth": 1.1, "alpha": 0.8},
    "paper, training": {"linestyle": "-.", "linewidth": 1.0, "alpha": 0.8},
}


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Args:
        model: what it is of; lines of one model share a colour and an entry of the legend.
        style: whose it is, and on which part.
        updates, values: the points.
        deviation: standard deviation at each point, drawn as a band; None for no band.
    """

    model: str
    style: Style
    updates: Sequence[int]
    values: Sequence[float]
    deviation: Sequence[float] | None = None

    @property
    def paper(self) -> bool:
        return self.style.startswith("paper")


def colours(models: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A colour for each model: its norm's own, or the next free one where another model of the figure has that.

    Args:
        models: name and norm of each, in the order of the legend.
    """
    chosen: dict[str, str] = {}
    for name, norm in models:
        if name not in chosen:
            free = [colour for colour in (COLOURS.get(norm), *_OTHERS) if colour and colour not in chosen.values()]
            chosen[name] = free[0] if free else "#555753"
    return chosen


def learning_curves(
    curves: Sequence[Curve],
    colour: dict[str, str],
    title: str,
    axis: str,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Curves over updates, to a little beyond where ours end: that is where they can be compared.

    Args:
        curves: ours and the paper's.
        colour: of each model, see :func:`colours`.
        title: above the figure.
        axis: what the vertical axis is.
        limits: of the vertical axis, None for what the curves need.
    """
    figure, axes = framed(title, "updates", axis)
    ours = [curve.updates[-1] for curve in curves if not curve.paper and len(curve.updates)]
    end = max(ours, default=0) * 1.05
    for curve in curves:
        kept = [i for i, x in enumerate(curve.updates) if not end or x <= end]
        x, y = [curve.updates[i] for i in kept], [curve.values[i] for i in kept]
        few = curve.style == "ours, validation" and len(kept) <= 25
        axes.plot(x, y, color=colour[curve.model], marker="o" if few else None, markersize=3, **_STYLES[curve.style])  # pyright: ignore[reportArgumentType]
        if curve.deviation is not None:
            spread = [curve.deviation[i] for i in kept]
            low = [value - s for value, s in zip(y, spread, strict=True)]
            high = [value + s for value, s in zip(y, spread, strict=True)]
            axes.fill_between(x, low, high, color=colour[curve.model], alpha=0.18, linewidth=0)
    if limits is not None:
        axes.set_ylim(limits)
    if end:
        axes.set_xlim(-0.02 * end, end)
    drawn = {curve.model for curve in curves}
    models = {model: own for model, own in colour.items() if model in drawn}
    styles = dict.fromkeys(curve.style for curve in curves)
    key(figure, models, {style: _STYLES[style] for style in _STYLES if style in styles})
    return figure


def framed(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure in the look of all of them; the vertical axis has its name above, where it need not be turned."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(plain(f"{title}\n{y}"), fontsize=9.5, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.locator_params(axis="x", nbins=6)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def key(figure: Figure, models: dict[str, str], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """A legend below the axes, where it lies over no curve: a colour for each model, then the styles of line.

    Args:
        figure: grows by the legend's height.
        models: colour of each.
        styles: what each looks like; left out where there is only one.
    """
    looks: dict[str, Mapping[str, Any]] = {name: {"color": own, "linewidth": 4} for name, own in models.items()}
    if len(styles) > 1:
        looks |= {name: {"color": "#555753", **style} for name, style in styles.items()}
    labels = [textwrap.fill(name, 50) for name in looks]
    entries = [Line2D([], [], label=plain(label), **look) for label, look in zip(labels, looks.values(), strict=True)]
    columns = 1 if max(map(len, labels), default=0) > 30 else 2
    figure.legend(
        handles=entries, loc="outside lower left", ncols=columns, fontsize=8.5, frameon=False, handlelength=2.4
    )
    lines = sum(label.count("\n") + 1 for label in labels)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.18 * -(-lines // columns))


def plain(text: str) -> str:
    """A text that is drawn as it is: dollar signs would make an equation of what lies between them."""
    return text.replace("$", r"\$")


def finite(values: Iterable[float]) -> list[float]:
    """The values that are numbers: a diverged run has others."""
    return [value for value in values if math.isfinite(value)]
