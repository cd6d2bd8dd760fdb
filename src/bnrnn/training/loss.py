"""The softmax loss over a vocabulary, in memory that does not grow with its size."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 22  # logits held at once


class Predicted(NamedTuple):
    """What a softmax layer makes of the next symbols.

    Args:
        loss: what is minimised, in nats a prediction; differentiable once.
        cross_entropy: the mean cross-entropy in nats, which the loss is where no probability has a floor.
        correct: how many targets have the largest logit, an integer.
    """

    loss: Tensor
    cross_entropy: Tensor
    correct: Tensor


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, floor: float = 0.0
) -> Predicted:
    r"""Mean cross-entropy of a softmax layer, without ever holding all its logits.

    .. math:: L = -\frac{1}{N} \sum_n \log(p_n + \epsilon), \quad p_n = \mathrm{softmax}(W h_n + b)_{y_n}

    The logits are made a block of rows at a time, and each block is turned into its share of the gradients at
    once, so that neither pass holds N x V numbers and nothing is computed twice.

    Args:
        hidden: ``(..., H)``.
        weight, bias: ``(V, H)`` and ``(V,)``.
        targets: ``(...)``, integers below V.
        floor: :math:`\epsilon`, at least 0: what is added to each probability (1e-6 in the released code of Laurent et
            al. 2015). It bounds a prediction's loss.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden, weight, bias))
    return Predicted(*_LinearCrossEntropy.apply(rows, weight, bias, targets.reshape(-1).long(), wanted, floor))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, wanted: bool, floor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        count, block = len(hidden), max(1, _BLOCK // len(weight))
        loss, entropy = hidden.new_zeros((), dtype=dtype), hidden.new_zeros((), dtype=dtype)
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
                nats = total.log() + largest - at_target
                entropy += nats.sum()
                p = shares.gather(1, y) / total
                if floor:
                    loss -= (p + floor).log().sum()
                if wanted:
                    delta = shares.div_(total * count)
                    delta.scatter_add_(1, y, delta.new_full(y.shape, -1 / count))
                    if floor:
                        delta *= p / (p + floor)
                    delta = delta.to(hidden.dtype)
                    gradients[0][start : start + block] = delta @ w
                    gradients[1] += delta.t() @ h
                    gradients[2] += delta.sum(0)
        ctx.save_for_backward(*gradients)
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype)
        mean = entropy / count
        ctx.mark_non_differentiable(correct, mean)
        return (loss / count if floor else mean.clone()), mean, correct

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]: the decorator hides the names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        gradients = [
            (grad_outputs[0] * gradient).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None)
