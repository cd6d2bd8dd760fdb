"""The arguments of a recurrence, checked before any backend works on them: a kernel trusts their shapes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from bnrnn.ops.cells import Cell
from bnrnn.ops.layout import KINDS
from bnrnn.ops.record import Recurrence
from bnrnn.ops.sites import Site


def check_call(cell: Cell, call: Recurrence) -> None:
    """Refuse what does not fit together.

    Raises:
        ValueError: a tensor of another shape, one that the cell has no use for, ``batch_sizes`` that no sorted batch
            has, a site of an unknown kind, or too few rows.
    """
    x, state, weight_ih, weight_hh, bias, bias_hn, weight_hr, sites, batch_sizes, recurrent_mask, zoneout = call
    if x.dim() != (3 if x.is_floating_point() else 2):
        raise ValueError(f"x must have shape (T, B, I), or (T, B) if it is integers, got {tuple(x.shape)}")
    steps, batch = x.shape[:2]
    if steps == 0:
        raise ValueError(f"x must have at least one time step, got shape {tuple(x.shape)}")
    if weight_ih.dim() != 2 or weight_hh.dim() != 2:
        shapes = f"{tuple(weight_ih.shape)} and {tuple(weight_hh.shape)}"
        raise ValueError(f"weight_ih and weight_hh must be matrices, got shapes {shapes}")
    gates = cell.gates
    width, output = weight_ih.shape[0], weight_hh.shape[1]
    if width % gates:
        raise ValueError(f"weight_ih must have a multiple of {gates} rows, got {tuple(weight_ih.shape)}")
    units = output if weight_hr is None else width // gates
    if units == 0 or output == 0 or weight_ih.shape[1] == 0:
        shapes = f"{tuple(weight_ih.shape)} and {tuple(weight_hh.shape)}"
        raise ValueError(f"weight_ih and weight_hh must have at least one row and column, got shapes {shapes}")
    if x.is_floating_point():
        _expect("x", x, (steps, batch, weight_ih.shape[1]))
    _expect("weight_hh", weight_hh, (gates * units, output))
    if weight_hr is not None:
        if not cell.has_cell:
            raise ValueError("weight_hr must be None: only an LSTM has a projection")
        _expect("weight_hr", weight_hr, (output, units))
    _expect("bias", bias, (width,))
    if bias_hn is not None:
        if not cell.has_reset:
            raise ValueError("bias_hn must be None: only a GRU has a bias inside the product with its reset gate")
        _expect("bias_hn", bias_hn, (units,))
    if len(state) != cell.states or len(zoneout) > cell.states:
        raise ValueError(
            f"state must be {cell.states} tensors and zoneout at most as many, got {len(state)} and {len(zoneout)}"
        )
    _expect("h0", state[0], (batch, output))
    if cell.has_cell:
        _expect("c0", state[1], (batch, units))
    _expect("recurrent_mask", recurrent_mask, (batch, output))
    for name, value, size in zip(("zoneout_h", "zoneout_c"), zoneout, (output, units), strict=False):
        if value is not None and value.dim():
            _expect(name, value, (steps, batch, size))
    if sites.cell is not None and not cell.has_cell:
        raise ValueError("sites: cell must be None: only an LSTM has a c_t")
    named = [(name, site) for name, site in sites._asdict().items() if site is not None]
    for name, site in named:
        _check_site(name, site, width // gates if name == "cell" else width, steps)
    rows, total = (batch, steps * batch) if batch_sizes is None else _check_batch_sizes(batch_sizes, steps, batch)
    for name, site in named:
        if not site.takes_batch_statistics:
            continue
        if site.processes is not None:
            rows, total = site.processes.rows[0], sum(site.processes.rows)
        have, where = (rows, "at the first step") if site.kind == "frame" else (total, "in all steps together")
        if have < site.min_rows:
            raise ValueError(f"sites: {name} needs {site.min_rows} valid rows {where}, got {have}")


def _expect(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    if value is not None and tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")


def _check_site(name: str, site: Site, size: int, steps: int) -> None:
    if site.kind not in KINDS:
        raise ValueError(f"sites: {name}'s kind must be one of {', '.join(map(repr, KINDS))}, got {site.kind!r}")
    if site.min_rows < 1:
        raise ValueError(f"sites: {name}'s min_rows must be at least 1, got {site.min_rows}")
    _expect(f"sites: {name}'s gamma", site.gamma, (size,))
    _expect(f"sites: {name}'s beta", site.beta, (size,))
    if site.kind == "shift" and site.gamma is not None:
        raise ValueError(f"sites: {name}'s gamma must be None: a shift only adds beta")
    if (site.mean is None) != (site.var is None):
        raise ValueError(f"sites: {name}'s mean and var must be given together")
    if site.mean is not None and site.kind in ("layer", "shift"):
        raise ValueError(f"sites: {name}'s mean must be None: {site.kind!r} has no population statistics")
    rows = 1 if site.kind == "sequence" else steps
    _expect(f"sites: {name}'s mean", site.mean, (rows, size))
    _expect(f"sites: {name}'s var", site.var, (rows, size))


def _check_batch_sizes(batch_sizes: Tensor, steps: int, batch: int) -> tuple[int, int]:
    """The valid rows at the first step and of all steps."""
    _expect("batch_sizes", batch_sizes, (steps,))
    if batch_sizes.dtype != torch.int64 or not batch_sizes.is_cpu:
        raise ValueError(f"batch_sizes must be int64 on the CPU, got {batch_sizes.dtype} on {batch_sizes.device}")
    if torch.compiler.is_compiling():  # values are not known; the operator checks them when it runs
        return batch, steps * batch
    sizes = batch_sizes.tolist()
    if sizes[0] > batch or sizes[-1] < 0 or any(later > earlier for earlier, later in pairwise(sizes)):
        raise ValueError(f"batch_sizes must not increase and lie between 0 and {batch}, got {sizes}")
    return sizes[0], sum(sizes)
