"""The softmax loss over a vocabulary, in memory that does not grow with its size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 22  # logits held at once


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean cross-entropy of a softmax layer, without ever holding all its logits.

    .. math:: L = -\frac{1}{N} \sum_n \log \mathrm{softmax}(W h_n + b)_{y_n}

    The logits are made a block of rows at a time, and each block is turned into its share of the gradients at
    once, so that neither pass holds N x V numbers and nothing is computed twice.

    Args:
        hidden: ``(..., H)``.
        weight, bias: ``(V, H)`` and ``(V,)``.
        targets: ``(...)``, integers below V.

    Returns:
        The mean loss in nats, differentiable once, and how many targets have the largest logit, an integer.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden, weight, bias))
    return _LinearCrossEntropy.apply(rows, weight, bias, targets.reshape(-1).long(), wanted)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        count, block = len(hidden), max(1, _BLOCK // len(weight))
        loss = hidden.new_zeros((), dtype=dtype)
        correct = targets.new_zeros(())
        gradients = [torch.zeros_like(x, dtype=dtype) for x in (hidden, weight, bias)] if wanted else []
        with torch.autocast(hidden.device.type, enabled=False):
            w, b = weight.to(hidden.dtype), bias.to(hidden.dtype)
            for start in range(0, count, block):
                h, y = hidden[start : start + block], targets[start : start + block, None]
                logits = torch.addmm(b, h, w.t()).to(dtype)
                at_target, largest = logits.gather(1, y), logits.amax(1, keepdim=True)
                correct += (at_target == largest).sum()
                shares = logits.sub_(largest).exp_()
                total = shares.sum(1, keepdim=True)
                loss += (total.log() + largest - at_target).sum()
                if wanted:
                    delta = shares.div_(total * count)
                    delta.scatter_add_(1, y, delta.new_full(y.shape, -1 / count))
                    delta = delta.to(hidden.dtype)
                    gradients[0][start : start + block] = delta @ w
                    gradients[1] += delta.t() @ h
                    gradients[2] += delta.sum(0)
        ctx.save_for_backward(*gradients)
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype)
        ctx.mark_non_differentiable(correct)
        return loss / count, correct

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]: the decorator hides the names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        gradients = [
            (grad_outputs[0] * gradient).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None)
