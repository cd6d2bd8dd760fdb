"""The derivative of tanh over the deviation of its input: Cooijmans et al. 2017, Figure 2b."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def tanh_derivative_figure(columns: Mapping[str, Sequence[float]]) -> Figure:
    """Mean and quartile band, exact, and the mean of samples.

    Args:
        columns: ``deviation``, ``mean``, ``lower``, ``upper``, ``sampled_mean``, ``sampled_lower``, ``sampled_upper``.
    """
    figure = Figure(figsize=(5.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    deviations = columns["deviation"]
    axes.fill_between(
        deviations,
        columns["lower"],
        columns["upper"],
        color="#3465a4",
        alpha=0.2,
        linewidth=0,
        label="quartiles, exact",
    )
    for name, label in (("sampled_mean", "mean of samples"), ("sampled_lower", "quartiles of samples")):
        axes.plot(deviations, columns[name], color="#cc4e00", linewidth=0.5, alpha=0.6, label=label)
    axes.plot(deviations, columns["sampled_upper"], color="#cc4e00", linewidth=0.5, alpha=0.6)
    axes.plot(deviations, columns["mean"], color="#204a87", linewidth=1.9, label="mean, exact")
    axes.set_xlim(0, max(deviations))
    axes.set_ylim(0, 1)
    axes.set_xlabel(r"standard deviation $\sigma$ of the input")
    axes.set_ylabel(r"$1 - \tanh^2(x)$")
    axes.set_title("Derivative of tanh, x normal", fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure
