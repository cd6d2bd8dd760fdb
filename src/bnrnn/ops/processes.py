r"""Moments over the rows of several processes, as one process would take them of all rows.

Each process gives its own mean and biased variance, and all merge them alike (Chan et al. 1979). With the weights
:math:`w_p = n_p / \sum_q n_q` of the processes' numbers of rows,

.. math:: m = \sum_p w_p m_p, \qquad v = \sum_p w_p \left(v_p + (m_p - m)^2\right)

so nothing cancels, and every process has the same bits. Going back the gradients of m and v are summed over the
processes, since the rows of each have a part in the loss of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


class Processes:
    """What the processes of a group bring to one call of a layer, and the moments of their rows together.

    A collective of one process waits for those of all others. So all go through the same collectives in the same
    order, forward and back: each takes part in every step up to the longest process's, with no rows where it has none,
    and a thread through all merges makes that each one's backward pass has them all, if it reaches what
    :meth:`leave` gave. Made by :func:`meet`, for one call.

    Attributes:
        steps: the time steps of the process that has most.
        rows: the valid rows of all processes together at each of these steps.
    """

    def __init__(self, group: Any, counts: Tensor, device: torch.device, differentiated: bool) -> None:
        self._group, self._counts = group, counts
        total = counts.sum(0)
        self.steps = counts.shape[1]
        self.rows: list[int] = total.tolist()
        self._device = device
        self._thread = torch.zeros((), device=device, requires_grad=differentiated)
        self._by_step: dict[torch.dtype, tuple[Tensor, ...]] = {}

    def of_step(self, t: int, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The moments ``(1, n)`` of a step's rows, from those of the own; of no rows any finite numbers serve."""
        if mean.dtype not in self._by_step:
            self._by_step[mean.dtype] = self._weights(self._counts, mean.dtype).unbind(1)
        return self._merged(mean, var, self._by_step[mean.dtype][t].unsqueeze(1))

    def of_steps(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The moments ``(S, n)`` of each of the first S steps, in one exchange."""
        return self._merged(mean, var, self._weights(self._counts[:, : len(mean)], mean.dtype))

    def of_all(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The moments ``(1, n)`` of the rows of all steps together."""
        return self._merged(mean, var, self._weights(self._counts.sum(1, keepdim=True), mean.dtype))

    def leave(self, *results: Tensor) -> tuple[Tensor, ...]:
        """The call's results, such that a gradient of any of them goes through all merges."""
        return tuple(result + self._thread.to(result.dtype) for result in results)

    def _weights(self, counts: Tensor, dtype: torch.dtype) -> Tensor:
        return (counts / counts.sum(0).double()).to(self._device, dtype)

    def _merged(self, mean: Tensor, var: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        mean, var, self._thread = _Merged.apply(mean, var, self._thread, weights, self._group)  # type: ignore[misc]
        return mean, var


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, var: Tensor, thread: Tensor, weights: Tensor, group: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.stack((mean, var))
        everyones = own.new_empty(len(weights), *own.shape)
        dist.all_gather(list(everyones.unbind(0)), own, group=group)
        means, variances = everyones.unbind(1)
        weight = weights.unsqueeze(2)
        merged = (weight * means).sum(0)
        variance = (weight * (variances + (means - merged).square())).sum(0)
        ctx.save_for_backward(mean - merged, weight[group.rank()])
        ctx.group = group
        return merged, variance, thread.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        deviation, weight = ctx.saved_tensors
        grad_mean, grad_var, grad_thread = grads
        everyones = torch.stack((grad_mean, grad_var))
        dist.all_reduce(everyones, group=ctx.group)
        grad_mean, grad_var = everyones
        return weight * (grad_mean + 2 * deviation * grad_var), weight * grad_var, grad_thread, None, None


def meet(
    group: Any, rows: Sequence[int], alike: Mapping[str, int], device: torch.device, differentiated: bool
) -> Processes:
    """Tell the other processes of a group how many rows this one has, and hear it of them.

    Args:
        group: the process group.
        rows: the own valid rows at each time step.
        alike: numbers by name that tell which call this is; they must be the same in all processes.
        device: where the group exchanges tensors.
        differentiated: whether a backward pass may follow; it must be the same in all processes.

    Raises:
        RuntimeError: other processes are in another call.
    """
    even = all(n == rows[0] for n in rows)
    alike = {"differentiated": differentiated, **alike}
    told = gathered(torch.tensor([len(rows), rows[0] if even else -1, *alike.values()], device=device), group)
    unlike = [
        f"{name} is {found}" for name, found in zip(alike, told.t()[2:].tolist(), strict=True) if len({*found}) > 1
    ]
    if unlike:
        raise RuntimeError(
            "the processes of a group are in different calls: each must call the same layers in the same order and in "
            f"the same way; {'; '.join(unlike)}"
        )
    steps = int(told[:, 0].max())
    if (told[:, 1] < 0).any():
        padded = torch.tensor([*rows, *[0] * (steps - len(rows))], device=device)
        counts = gathered(padded, group)
    else:
        counts = told[:, 1:2] * (torch.arange(steps) < told[:, :1])
    return Processes(group, counts, device, differentiated)


def gathered(own: Tensor, group: Any) -> Tensor:
    """What each process of the group gave, ``(processes, ...)``, on the CPU."""
    found = own.new_empty(group.size(), *own.shape)
    dist.all_gather(list(found.unbind(0)), own, group=group)
    return found.cpu()
