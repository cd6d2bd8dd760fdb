"""Sites as an operator's arguments: tensors, a few numbers and an eps each. The kernels read the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

import torch
from torch import Tensor

from bnrnn.ops.cells import Cell
from bnrnn.ops.sites import Kind, Site, Sites, Statistics


class KindNumber(IntEnum):
    """``enum class Kind`` of csrc/problem.h."""

    NONE = 0
    FRAME = 1
    SEQUENCE = 2
    LAYER = 3
    SHIFT = 4


class Given(IntFlag):
    """Which tensors a site has, in this order in the list; population statistics are two."""

    GAMMA = 1
    BETA = 2
    POPULATION = 4


KINDS: dict[str, int] = {"frame": 1, "sequence": 2, "layer": 3, "shift": 4}
_NAMES: dict[int, Kind] = {1: "frame", 2: "sequence", 3: "layer", 4: "shift"}


class SiteLayout(NamedTuple):
    """The numbers of one site."""

    kind: int
    given: int
    min_rows: int

    @property
    def own_statistics(self) -> bool:
        """Whether the call takes statistics of its own batch."""
        return self.kind in (KindNumber.FRAME, KindNumber.SEQUENCE) and not self.given & Given.POPULATION

    @property
    def normalizes(self) -> bool:
        return self.kind in (KindNumber.FRAME, KindNumber.SEQUENCE, KindNumber.LAYER)

    @property
    def is_layer(self) -> bool:
        return self.kind == KindNumber.LAYER


NUMBERS = len(SiteLayout._fields)


def layouts(numbers: Sequence[int]) -> list[SiteLayout]:
    """Of input, recurrent, summed and cell."""
    return [SiteLayout(*numbers[i : i + NUMBERS]) for i in range(0, NUMBERS * len(Sites._fields), NUMBERS)]


def flatten(sites: Sites) -> tuple[list[Tensor], list[int], list[float]]:
    """The tensors that are there, the numbers of each site, and the eps of each."""
    tensors: list[Tensor] = []
    numbers: list[int] = []
    eps: list[float] = []
    for site in sites:
        if site is None:
            numbers += (0, 0, 0)
            eps.append(0.0)
            continue
        kind, gamma, beta, site_eps, min_rows, mean, var, _ = site
        tensors += [t for t in (gamma, beta, mean, var) if t is not None]
        # an IntFlag's own arithmetic would cost a microsecond each
        numbers += (KINDS[kind], (gamma is not None) + 2 * (beta is not None) + 4 * (mean is not None), min_rows)
        eps.append(site_eps)
    return tensors, numbers, eps


def unflatten(tensors: Sequence[Tensor], numbers: Sequence[int], eps: Sequence[float]) -> Sites:
    """What :func:`flatten` was given."""
    left = iter(tensors)
    sites: list[Site | None] = []
    for layout, site_eps in zip(layouts(numbers), eps, strict=True):
        if layout.kind == KindNumber.NONE:
            sites.append(None)
            continue
        gamma = next(left) if layout.given & Given.GAMMA else None
        beta = next(left) if layout.given & Given.BETA else None
        mean, var = (next(left), next(left)) if layout.given & Given.POPULATION else (None, None)
        sites.append(Site(_NAMES[layout.kind], gamma, beta, site_eps, layout.min_rows, mean, var))
    return Sites(*sites)


def sizes(cell: Cell, units: int) -> tuple[int, int, int, int]:
    """Features of input, recurrent, summed and cell."""
    width = cell.gates * units
    return width, width, width, units


def statistics_shapes(numbers: Sequence[int], cell: Cell, steps: int, units: int) -> dict[str, tuple[int, int]]:
    """Shape of the mean that each site takes from its batch, by name; sites that take none are left out."""
    return {
        name: (1 if layout.kind == KindNumber.SEQUENCE else steps, n)
        for name, layout, n in zip(Sites._fields, layouts(numbers), sizes(cell, units), strict=True)
        if layout.own_statistics
    }


def statistics_size(numbers: Sequence[int], cell: Cell, steps: int, units: int) -> int:
    return sum(2 * rows * n for rows, n in statistics_shapes(numbers, cell, steps, units).values())


def read_statistics(flat: Tensor, sites: Sites, cell: Cell, steps: int, units: int) -> Statistics:
    """The flat result of an operator as site name to (mean, var)."""
    taken: Statistics = {}
    start = 0
    for name, site, n in zip(Sites._fields, sites, sizes(cell, units), strict=True):
        if site is None or not site.takes_batch_statistics:
            continue
        rows = 1 if site.kind == "sequence" else steps
        taken[name] = flat[start : start + 2 * rows * n].view(2, rows, n).unbind(0)  # type: ignore[assignment]
        start += 2 * rows * n
    return taken


def write_statistics(statistics: Statistics, like: Tensor) -> Tensor:
    """The inverse of :func:`read_statistics`."""
    parts = [t.reshape(-1).to(like.dtype) for name in Sites._fields if name in statistics for t in statistics[name]]
    return torch.cat(parts) if parts else like.new_empty(0)


def site_gradients(flat: Tensor, numbers: Sequence[int], cell: Cell, units: int) -> list[Tensor | None]:
    """Gradients of the tensors that :func:`flatten` made, from an operator's flat result."""
    *gammas, beta = flat.split([*sizes(cell, units), units])
    grads: list[Tensor | None] = []
    for i, gamma in enumerate(gammas):
        given = numbers[NUMBERS * i + 1]
        if given & 1:
            grads.append(gamma)
        if given & 2:
            grads.append(beta)
        if given & 4:
            grads += (None, None)
    return grads
