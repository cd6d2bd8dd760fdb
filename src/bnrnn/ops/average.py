"""Averages of batch statistics over the batches of training."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn._shapes import Float, Int
from bnrnn.ops import _library


def average_(
    mean: Float[Tensor, "S n"],
    var: Float[Tensor, "S n"],
    count: Int[Tensor, " S"],
    batch_mean: Float[Tensor, "T n"],
    batch_var: Float[Tensor, "T n"],
    start: int,
    momentum: float,
) -> None:
    r"""Take a batch's statistics into the rows of a table from ``start`` on, in place.

    .. math::

        k \leftarrow k + 1, \qquad m \leftarrow m + \max(1 / k, \text{momentum}) \, (m_\text{batch} - m)

    So an average is the plain mean of its batches while these are fewer than ``1 / momentum``, then exponential; with a
    momentum of 0 it stays the plain mean.

    Args:
        mean, var, count: the table, and the number of batches in each of its rows.
        batch_mean, batch_var: the batch's.
        start: the first row, with ``start + T <= S``.
        momentum: the least weight of a batch.
    """
    tensors = (mean, var, batch_mean, batch_var)
    if _takes(count, tensors):
        torch.ops.bnrnn.average_(mean, var, count, batch_mean, batch_var, start, momentum)
        return
    rows = slice(start, start + batch_mean.shape[0])
    count = count[rows]
    count += 1
    weight = count.to(mean.dtype).reciprocal_().clamp_(min=momentum).unsqueeze_(1)
    for table, batch in ((mean, batch_mean), (var, batch_var)):
        table[rows].lerp_(batch.to(table.dtype), weight)


def _takes(count: Tensor, tensors: tuple[Tensor, ...]) -> bool:
    """Whether the kernel does it: torch.compile makes one of the plain version itself."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if not all(t.is_cpu and t.dtype == tensors[0].dtype and t.is_contiguous() for t in tensors):
        return False
    ours = tensors[0].dtype in (torch.float32, torch.float64) and count.is_cpu and count.is_contiguous()
    return ours and _library.why_not() is None


@_library.on_load
def _register() -> None:
    torch.library.register_fake("bnrnn::average_", lambda *_: None)
