"""The outcome of a sweep over each of its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def sweep_figure(
    points: Sequence[tuple[Mapping[str, str], float | None, str]], names: Sequence[str], axis: str
) -> Figure:
    """A panel for each option, a point for each trial; diverged trials are crosses at the upper edge.

    Args:
        points: a trial's options, its value (None where it has none) and its state.
        names: the options to draw.
        axis: what the value is.
    """
    figure = Figure(figsize=(max(4.5, 3.4 * len(names)), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        words = [options[name] for options, _, _ in points]
        numbers = [_number(word) for word in words]
        numeric = all(number is not None for number in numbers)
        places = numbers if numeric else [sorted(set(words)).index(word) for word in words]
        done = [(x, value) for x, (_, value, _) in zip(places, points, strict=True) if value is not None]
        axes.plot([x for x, _ in done], [y for _, y in done], "o", color="#3465a4", alpha=0.7, markersize=5)
        lost = [x for x, (_, _, state) in zip(places, points, strict=True) if state == "diverged"]
        axes.plot(lost, [0.98] * len(lost), "x", color="#a40000", transform=axes.get_xaxis_transform())
        if not numeric:
            axes.set_xticks(range(len(set(words))), sorted(set(words)))
        elif min(numbers) > 0 and max(numbers) > 20 * min(numbers):  # pyright: ignore
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(axis)
    return figure


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
