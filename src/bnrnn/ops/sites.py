"""What a recurrence has to know of its normalizations in one call."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from bnrnn.ops.processes import Processes

Kind = Literal["frame", "sequence", "layer", "shift"]
Statistics = dict[str, tuple[Tensor, Tensor]]
"""Site name to the (mean, variance) that the call took from its own batch, detached."""


class Site(NamedTuple):
    """One normalized quantity of ``n`` features.

    Attributes:
        kind: ``"frame"`` and ``"sequence"`` are batch normalization over the valid rows of one step, or of all
            steps together; ``"layer"`` is layer normalization over the features of one row; ``"shift"`` only
            adds ``beta``.
        gamma: gain ``(n,)``, None for 1.
        beta: offset ``(n,)``, None for 0.
        eps: added to the variance, inside the square root.
        min_rows: the least number of valid rows (``"sequence"``: rows of all steps together) of which batch
            statistics are taken.
        mean, var: population statistics, ``(T, n)`` for ``"frame"`` and ``(1, n)`` for ``"sequence"``; None to
            take the batch's own.
        processes: those over whose rows together the batch's statistics are taken; None for this one's alone. The
            statistics returned then have a row for each step of the process that has most.
    """

    kind: Kind
    gamma: Tensor | None = None
    beta: Tensor | None = None
    eps: float = 1e-5
    min_rows: int = 2
    mean: Tensor | None = None
    var: Tensor | None = None
    processes: Processes | None = None

    @property
    def takes_batch_statistics(self) -> bool:
        return self.kind in ("frame", "sequence") and self.mean is None


class Sites(NamedTuple):
    """The sites of one recurrence; None where nothing is normalized."""

    input: Site | None = None
    recurrent: Site | None = None
    summed: Site | None = None
    cell: Site | None = None


def common_steps(sites: Sites) -> int:
    """How many steps of the recurrence all processes go through together, also one that has no rows there."""
    steps = 0
    for site in (sites.recurrent, sites.summed, sites.cell):
        if site is not None and site.processes is not None:
            steps = max(steps, site.processes.steps)
    return steps


def split(site: Site | None, sizes: tuple[int, ...]) -> list[Site | None]:
    """Cut a site along its features into independent ones."""
    if site is None:
        return [None] * len(sizes)

    def pieces(value: Tensor | None) -> list[Tensor | None]:
        return [None] * len(sizes) if value is None else list(value.split(sizes, -1))

    fields = zip(*(pieces(v) for v in (site.gamma, site.beta, site.mean, site.var)), strict=True)
    return [site._replace(gamma=g, beta=b, mean=m, var=v) for g, b, m, v in fields]


def collect(**taken: tuple[Tensor, Tensor] | None) -> Statistics:
    """The statistics of the sites that took some."""
    return {name: value for name, value in taken.items() if value is not None}
