"""Averages of batch statistics over the batches of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnrnn._shapes import Float, Int
from bnrnn.ops import loading
from bnrnn.ops.operators import LIBRARY, loads_here


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
    momentum of 0 it stays the plain mean. Rows that no batch has reached then get the values of the nearest earlier row
    that one has, or, before the first such row, of that.

    Args:
        mean, var, count: the table, and the number of batches in each of its rows.
        batch_mean, batch_var: the batch's.
        start: the first row, with ``start + T <= S``.
        momentum: the least weight of a batch.

    Raises:
        ValueError: tensors that do not fit together or that cannot be written. Nothing has been changed then.
    """
    arguments = (mean, var, count, batch_mean, batch_var, start, momentum)
    if _takes(count, (mean, var, batch_mean, batch_var)):
        _check_writable(mean, var, count)
        try:
            torch.ops.bnrnn.average_.default(*arguments)
        except RuntimeError:  # it has changed nothing
            _check(*arguments)
            raise
    else:
        _check(*arguments)
        _average(*arguments)


def _check(
    mean: Tensor, var: Tensor, count: Tensor, batch_mean: Tensor, batch_var: Tensor, start: int, momentum: float
) -> None:
    if mean.dim() != 2 or batch_mean.dim() != 2:
        raise ValueError(
            f"mean and batch_mean must be matrices, got shapes {tuple(mean.shape)} and {tuple(batch_mean.shape)}"
        )
    rows, size = mean.shape
    steps = batch_mean.shape[0]
    for name, tensor, shape in (
        ("var", var, (rows, size)),
        ("count", count, (rows,)),
        ("batch_mean", batch_mean, (steps, size)),
        ("batch_var", batch_var, (steps, size)),
    ):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if start < 0 or start + steps > rows:
        raise ValueError(f"start must leave room for {steps} rows in a table of {rows}, got {start}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
    if not mean.is_floating_point() or var.dtype != mean.dtype:
        raise ValueError(f"mean and var must be of one floating-point dtype, got {mean.dtype} and {var.dtype}")
    if not batch_mean.is_floating_point() or not batch_var.is_floating_point():
        raise ValueError(f"the batch's must be floating point, got {batch_mean.dtype} and {batch_var.dtype}")
    if count.dtype != torch.int64:
        raise ValueError(f"count must be int64, got {count.dtype}")
    for tensor in (mean, var, count, batch_mean, batch_var):
        if tensor.device != mean.device:
            raise ValueError(f"all must be on one device, got {mean.device} and {tensor.device}")
        if tensor.layout != torch.strided:
            raise ValueError(f"all must be strided tensors, got {tensor.layout}")
    if not torch.compiler.is_compiling():
        _check_writable(mean, var, count)


def _check_writable(mean: Tensor, var: Tensor, count: Tensor) -> None:
    if torch.is_grad_enabled() and (mean.requires_grad or var.requires_grad):
        raise ValueError("mean and var must not require a gradient")
    for tensor in (mean, var, count):
        if tensor.is_inference() and not torch.is_inference_mode_enabled():
            raise ValueError("a table made under torch.inference_mode() can be changed only there")
        places = zip(tensor.shape, tensor.stride(), strict=True)
        if not tensor.is_contiguous() and any(n > 1 and stride == 0 for n, stride in places):
            raise ValueError("mean, var and count must not be expanded: their elements would share memory")


def _takes(count: Tensor, tensors: tuple[Tensor, ...]) -> bool:
    """Whether the kernel does it: torch.compile makes one of the plain version itself."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    dtype = tensors[0].dtype
    for t in tensors:
        if not t.is_cpu or t.dtype != dtype or t.layout != torch.strided or not t.is_contiguous():
            return False
    ours = dtype in (torch.float32, torch.float64) and count.layout == torch.strided and count.is_contiguous()
    return ours and loading.why_not() is None


def _average(
    mean: Tensor, var: Tensor, count: Tensor, batch_mean: Tensor, batch_var: Tensor, start: int, momentum: float
) -> None:
    rows = slice(start, start + batch_mean.shape[0])
    counted = count[rows]
    counted += 1
    weight = counted.to(mean.dtype).reciprocal_().clamp_(min=momentum).unsqueeze_(1)
    for table, batch in ((mean, batch_mean), (var, batch_var)):
        table[rows].lerp_(batch.to(table.dtype), weight)
    if 0 < batch_mean.shape[0] < mean.shape[0]:  # a batch over all rows leaves none empty
        source = nearest(count)
        for table in (mean, var):
            table.copy_(table[source])


def nearest(count: Int[Tensor, " S"]) -> Int[Tensor, " S"]:
    """For each row the one whose values it has: itself where a batch has entered it, else as :func:`average_` says."""
    has = count > 0
    own = torch.where(has, torch.arange(len(has), device=has.device), -1).cummax(0).values
    return torch.where(own < 0, has.int().argmax(), own)


def _average_anywhere(*arguments: Any) -> None:
    if loads_here("average_", arguments[:5]):
        torch.ops.bnrnn.average_.default(*arguments)
        return
    _check(*arguments)
    _average(*arguments)


LIBRARY.impl("average_", _average_anywhere, "CompositeExplicitAutograd")
torch.library.register_fake("bnrnn::average_", _check, lib=LIBRARY)
