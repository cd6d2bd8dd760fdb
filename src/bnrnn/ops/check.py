"""The arguments of a recurrence, checked before any backend works on them: a kernel trusts their shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn.ops.sites import Site, Sites


def check_call(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gates: int,
    named: dict[str, tuple[Tensor | None, tuple[int, ...]]],
    *,
    sites: Sites,
    batch_sizes: Tensor | None,
    recurrent_mask: Tensor | None,
    zoneouts: dict[str, tuple[Tensor | None, int]],
) -> None:
    """Refuse what does not fit together.

    Args:
        x, weight_ih, weight_hh, sites, batch_sizes, recurrent_mask: as in :func:`bnrnn.ops.lstm`.
        gates: how many blocks of units the weights have.
        named: other tensors by name, with the shape each must have.
        zoneouts: masks or probabilities by name, with the number of units each covers.

    Raises:
        ValueError: a tensor of another shape, ``batch_sizes`` that no sorted batch has, or too few rows.
    """
    if x.dim() != (3 if x.is_floating_point() else 2):
        raise ValueError(f"x must have shape (T, B, I), or (T, B) if it is integers, got {tuple(x.shape)}")
    steps, batch = x.shape[:2]
    width, output = weight_ih.shape[0], weight_hh.shape[1]
    if width % gates:
        raise ValueError(f"weight_ih must have a multiple of {gates} rows, got {tuple(weight_ih.shape)}")
    if x.is_floating_point():
        _expect("x", x, (steps, batch, weight_ih.shape[1]))
    for name, (value, shape) in named.items():
        _expect(name, value, shape)
    _expect("recurrent_mask", recurrent_mask, (batch, output))
    for name, (value, units) in zoneouts.items():
        if value is not None and value.dim():
            _expect(name, value, (steps, batch, units))
    for name, site in sites._asdict().items():
        if site is not None:
            _check_site(name, site, width // gates if name == "cell" else width, steps)
    rows = batch if batch_sizes is None else _check_batch_sizes(batch_sizes, steps, batch)
    for name, site in sites._asdict().items():
        if site is not None and site.kind == "frame" and site.takes_batch_statistics and rows < site.min_rows:
            raise ValueError(f"sites: {name} needs {site.min_rows} valid rows at the first step, got {rows}")


def _expect(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    if value is not None and tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")


def _check_site(name: str, site: Site, size: int, steps: int) -> None:
    _expect(f"sites: {name}'s gamma", site.gamma, (size,))
    _expect(f"sites: {name}'s beta", site.beta, (size,))
    rows = 1 if site.kind == "sequence" else steps
    _expect(f"sites: {name}'s mean", site.mean, (rows, size))
    _expect(f"sites: {name}'s var", site.var, (rows, size))


def _check_batch_sizes(batch_sizes: Tensor, steps: int, batch: int) -> int:
    """The valid rows at the first step."""
    _expect("batch_sizes", batch_sizes, (steps,))
    if torch.compiler.is_compiling():
        return batch
    first, last = int(batch_sizes[0]), int(batch_sizes[-1])
    if first > batch or last < 0 or bool((batch_sizes[1:] > batch_sizes[:-1]).any()):
        raise ValueError(f"batch_sizes must not increase and lie between 0 and {batch}, got {batch_sizes.tolist()}")
    return first
