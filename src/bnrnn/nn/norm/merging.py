"""Tables that the processes of a group have filled each by itself, as one table in all of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from bnrnn.nn.norm.site import Normalization
from bnrnn.nn.norm.table import Table
from bnrnn.ops.average import nearest
from bnrnn.ops.processes import gathered

FAILED = -1
"""In place of a number of batches: the process had an error."""


def exchange_counts(count: int, group: Any, device: torch.device) -> list[int]:
    """The number of batches of each process of a group.

    Raises:
        RuntimeError: another process had an error.
    """
    counts: list[int] = gathered(torch.tensor(count, device=device), group).tolist()
    failed = [rank for rank, found in enumerate(counts) if found == FAILED]
    if failed and count != FAILED:
        raise RuntimeError(f"process_group: its process {', '.join(map(str, failed))} had an error in this pass")
    return counts


def merge_tables(sites: list[Normalization], group: Any) -> None:
    """Make each row the average over the batches of all processes that reached it, in tables as long as the longest."""
    if not sites:
        return
    lengths = torch.tensor([len(site.count) for site in sites], device=sites[0].count.device)
    dist.all_reduce(lengths, dist.ReduceOp.MAX, group=group)
    sums = []
    for site, length in zip(sites, lengths.tolist(), strict=True):
        site.lengthen(length)
        count = site.count.double().unsqueeze(1)
        sums.append(torch.cat((count * site.mean, count * site.var, count), 1))
    flat = torch.cat([table.flatten() for table in sums])
    dist.all_reduce(flat, group=group)
    for site, table in zip(sites, flat.split([table.numel() for table in sums]), strict=True):
        mean, var, counts = table.view(len(site.count), -1).split((site.size, site.size, 1), 1)
        count = counts.round().long().squeeze(1)
        if count.any():
            rows = nearest(count)
            mean, var = ((moment / counts)[rows].to(site.mean.dtype) for moment in (mean, var))
            site.restore(Table(mean, var, count))
