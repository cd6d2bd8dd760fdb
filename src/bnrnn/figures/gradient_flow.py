"""The gradient's norm over time steps: Cooijmans et al. 2017, Figure 2a."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure

from bnrnn.figures.paper_analyses import paper_gradient_flow

_FLOOR = 1e-26  # of the published figure's axis


def gradient_flow_figure(curves: Sequence[tuple[str, float | None, Sequence[float]]], paper: bool = True) -> Figure:
    """Norms of the loss's derivative with respect to the hidden state, on a logarithmic axis.

    Args:
        curves: name, initial gain (None where nothing is normalized) and the norm after each step.
        paper: draw the paper's own curves of the same gains behind ours.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["viridis"]
    published = paper_gradient_flow() if paper else {}
    for name, gamma, norms in curves:
        colour = "#2e3436" if gamma is None else colours(min(gamma, 1.0) * 0.92)
        axes.semilogy(range(len(norms)), norms, label=name, color=colour, linewidth=1.7)
        if gamma in published:
            steps, values = published[gamma]
            axes.semilogy(steps, values, color=colour, linestyle="--", linewidth=1.0, alpha=0.7)
    if published:
        axes.semilogy([], [], color="#555753", linestyle="--", linewidth=1.0, label="the paper's")
    axes.set_ylim(_FLOOR, 1e2)
    axes.set_xlabel("time step t")
    axes.set_ylabel(r"$\|\partial L / \partial h_t\|_2$, mean over the batch")
    axes.set_title("How far back in time the loss reaches", fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    return figure
