"""The processes that compute a run together: each has its share of the rows of every batch.

All of them make the same batches and go through the same calls; what is told of the run (losses, metrics, gradients,
decisions) is taken over all. In a run of one process everything here gives back what it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Share(NamedTuple):
    """One process's part of a batch.

    Args:
        rows: of the batch.
        weight: what a sum over these rows counts in that over all processes.
    """

    rows: slice = slice(None)
    weight: float = 1.0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 leads: it writes the files and shows the run."""
    return dist.get_rank() if world() > 1 else 0


def share(rows: int) -> Share:
    """The own part of so many rows, as even as can be. Of fewer rows than processes each process has all: means and
    batch statistics of equal copies are those of one.
    """
    processes, own = world(), rank()
    if processes == 1:
        return Share()
    if rows < processes:
        return Share(weight=1 / processes)
    return Share(slice(rows * own // processes, rows * (own + 1) // processes))


def cut(tree: Any, batch_first: bool = False) -> Any:
    """The own rows of a batch: of a tree of tensors, whose rows are their second dimension, their first where it is the
    only one or with ``batch_first``. What is no tensor, and scalars, all processes have alike.
    """
    if world() == 1:
        return tree
    if isinstance(tree, Tensor):
        if tree.dim() == 0:
            return tree
        dim = 0 if batch_first or tree.dim() == 1 else 1
        rows = share(tree.shape[dim]).rows
        return tree[rows] if dim == 0 else tree[:, rows]
    if isinstance(tree, Mapping):
        return {name: cut(value, batch_first) for name, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(cut(value, batch_first) for value in tree))
    return type(tree)(cut(value, batch_first) for value in tree) if isinstance(tree, (tuple, list)) else tree


def rows_of(tree: Any, batch_first: bool = False) -> int:
    """How many rows a batch has; 0 if nothing in it has any."""
    if isinstance(tree, Tensor):
        return 0 if tree.dim() == 0 else len(tree) if batch_first or tree.dim() == 1 else tree.shape[1]
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, (tuple, list)) else ()
    return next((rows for part in parts if (rows := rows_of(part, batch_first))), 0)


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`cut` of named tensors that have their rows in the second dimension."""
    if world() == 1:
        return dict(tensors)
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, {name: tensor.cpu() for name, tensor in tensors.items()})
    return {name: torch.cat([part[name] for part in parts], 1) for name in tensors}


def totals(*values: float) -> tuple[float, ...]:
    """Sums over all processes."""
    if world() == 1:
        return values
    found = torch.tensor(values, dtype=torch.float64, device=_device())
    dist.all_reduce(found)
    return tuple(found.tolist())


def means(values: Mapping[str, Tensor], count: float | Tensor) -> dict[str, Tensor]:
    """Means over the rows of all processes, from scalars that are means over ``count`` of the own."""
    if world() == 1:
        return dict(values)
    *sums, total = totals(*(float(value) * float(count) for value in values.values()), float(count))
    return {name: value.new_tensor(s / total) for (name, value), s in zip(values.items(), sums, strict=True)}


def scaled(loss: Tensor, count: float | Tensor) -> Tensor:
    """A mean over ``count`` own rows as its part of the mean over those of all processes."""
    return loss if world() == 1 else loss * (float(count) / totals(float(count))[0])


def sum_gradients(model: nn.Module) -> None:
    """Make each parameter's gradient the sum over all processes, in one exchange."""
    if world() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def share_parameters(model: nn.Module) -> None:
    """Give the leading process's parameters and buffers to all."""
    if world() > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), 0)


def anywhere(*facts: bool) -> tuple[bool, ...]:
    """Which of the facts hold in any process."""
    return tuple(found > 0 for found in totals(*facts)) if world() > 1 else facts


def randn_like(rows: Tensor) -> Tensor:
    """Normal noise ``(rows, n)``, drawn for the rows of all processes by the leading one."""
    if world() == 1:
        return torch.randn_like(rows)
    counts = torch.zeros(world(), dtype=torch.int64, device=rows.device)
    counts[rank()] = len(rows)
    dist.all_reduce(counts)
    shape = (int(counts.sum()), *rows.shape[1:])
    noise = (torch.randn if rank() == 0 else torch.empty)(shape, dtype=rows.dtype, device=rows.device)
    dist.broadcast(noise, 0)
    start = int(counts[: rank()].sum())
    return noise[start : start + len(rows)]


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
