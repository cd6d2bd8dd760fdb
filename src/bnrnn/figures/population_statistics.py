"""Population statistics over time steps: Cooijmans et al. 2017, appendix A, Figure 6."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

_TITLES = {"recurrent": r"$W_h h_{t-1}$", "cell": "$c_t$"}


def population_statistics_figure(
    tables: Sequence[tuple[str, np.ndarray, np.ndarray]], steps: int | None = None
) -> Figure:
    """Means above, variances below, a column for each site, a line for each unit.

    Args:
        tables: site, mean and variance ``(steps, units)``.
        steps: the first steps only, None for all.
    """
    figure = Figure(figsize=(4.2 * len(tables), 5.6), layout="constrained")
    panels = figure.subplots(2, len(tables), squeeze=False, sharex="col")
    for column, (site, *statistics) in enumerate(tables):
        for row, (name, values) in enumerate(zip(("mean", "variance"), statistics, strict=True)):
            axes = panels[row][column]
            shown = values[:steps]
            axes.plot(range(1, len(shown) + 1), shown, linewidth=0.9, alpha=0.8)
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0][column].set_title(_TITLES.get(site, site), fontsize=11)
        panels[1][column].set_xlabel("time step")
    return figure
