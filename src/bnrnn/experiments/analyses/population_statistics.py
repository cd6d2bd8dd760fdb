"""How population statistics come to rest over time steps: Cooijmans et al. 2017, appendix A, Figure 6."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bnrnn.training import RunError, RunFolder, checkpoint

SITES = ("recurrent", "cell")


@dataclass(frozen=True)
class Table:
    """Population statistics of one site.

    Attributes:
        site: ``"recurrent"`` or ``"cell"``.
        units: which features were drawn, in ascending order.
        mean, var: ``(steps, units)``, over the steps in use.
    """

    site: str
    units: tuple[int, ...]
    mean: Tensor
    var: Tensor


def population_tables(path: Path, layer: str = "l0", units: int = 30, seed: int = 1) -> list[Table]:
    """The tables of a finished run's selected model, as its last pass over the training part estimated them.

    Args:
        path: run folder.
        layer: which layer and direction, as ``"l0"`` or ``"l1_reverse"``.
        units: features to draw at random, for each site.
        seed: of that draw.

    Raises:
        RunError: the run is not finished, or its model keeps no statistics for each step at these sites.
        ValueError: ``units`` is less than 1.
    """
    if units < 1:
        raise ValueError(f"units must be at least 1, got {units}")
    folder = RunFolder(path)
    if not folder.model.exists():
        raise RunError(f"{path} has no model.safetensors yet: a run writes it with its final evaluation")
    tensors, _ = checkpoint.load(folder.model)
    tables = []
    for site in SITES:
        ending = f"norm_{layer}.{site}."
        prefix = next((name.removesuffix("mean") for name in tensors if name.endswith(f"{ending}mean")), None)
        if prefix is None or len(tensors[f"{prefix}mean"]) < 2:
            continue
        used = int((tensors[f"{prefix}count"] > 0).sum())
        mean, var = tensors[f"{prefix}mean"][:used], tensors[f"{prefix}var"][:used]
        drawn = torch.randperm(mean.shape[1], generator=torch.Generator().manual_seed(seed))[:units].sort().values
        tables.append(Table(site, tuple(drawn.tolist()), mean[:, drawn], var[:, drawn]))
    if not tables:
        raise RunError(
            f"{path}: layer {layer} keeps no statistics for each time step at {' or '.join(SITES)}; name a run with"
            " --norm recurrent, or another --layer"
        )
    return tables
