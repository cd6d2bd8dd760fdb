"""What language models need of training: sequences and streams of a text, and the loss over its vocabulary."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnrnn.training.seeding import Purpose, generator

_BLOCK = 1 << 22  # logits held at once


class Sequences:
    """Non-overlapping sequences of a text from a random offset, in random order, anew for each epoch.

    Of the ``N // length`` sequences one is given up for the offset, which is less than a sequence. A sequence of
    ``length`` symbols gives ``length - 1`` predictions. The last batch of an epoch is smaller, but never has a
    single row, which would have no batch statistics: such a row joins the batch before.

    Args:
        text: indices, shape (N,).
        length: symbols in a sequence.
        batch_size: sequences in an update.
        seed: of offsets and orders.

    Raises:
        ValueError: the text is shorter than two sequences.
    """

    def __init__(self, text: Tensor, length: int, batch_size: int, seed: int) -> None:
        if length < 2:
            raise ValueError(f"length must be at least 2, got {length}")
        self.text, self.length, self.batch_size, self.seed = text, length, batch_size, seed
        self.count = len(text) // length - 1
        if self.count < 1:
            raise ValueError(
                f"the training text has {len(text):,} symbols, too few for sequences of {length:,}:"
                f" at least {2 * length:,} are needed"
            )
        whole, rest = divmod(self.count, batch_size)
        self.epoch_length = max(1, whole + (rest > 1))
        self._epoch: tuple[int, int, Tensor] = (-1, 0, torch.empty(0))

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 of shape (length - 1, rows): each target is the symbol after its input."""
        if self._epoch[0] != epoch:
            random = generator(self.seed, Purpose.ORDER, epoch)
            offset = int(torch.randint(self.length, (), generator=random))
            self._epoch = (epoch, offset, torch.randperm(self.count, generator=random))
        _, offset, order = self._epoch
        last = position == self.epoch_length - 1
        rows = order[position * self.batch_size : None if last else (position + 1) * self.batch_size]
        starts = offset + rows * self.length
        return shifted(self.text[torch.arange(self.length).unsqueeze(1) + starts].long())


class Streams:
    """A text as parallel streams, read window by window with the state carried from one to the next.

    The text is cut into ``rows`` equal pieces; window k has the symbols ``[k * window, (k + 1) * window)`` of each.
    What is left over is dropped.

    Args:
        text: indices, shape (N,).
        rows: streams.
        window: predictions of a stream in one step of truncated back-propagation.

    Raises:
        ValueError: the text does not fill one window.
    """

    def __init__(self, text: Tensor, rows: int, window: int) -> None:
        length = len(text) // rows
        self.window = window
        self.count = (length - 1) // window
        if self.count < 1:
            raise ValueError(
                f"the text has {len(text):,} symbols, too few for {rows} streams with windows of {window}:"
                f" at least {rows * (window + 1):,} are needed"
            )
        self.symbols = text[: rows * length].view(rows, length).t()

    def batch(self, position: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a window, int64 of shape (window, rows)."""
        start = position * self.window
        return shifted(self.symbols[start : start + self.window + 1].long())


def pieces(text: Tensor, length: int, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """A text in consecutive pieces of ``length`` symbols, for evaluation; what is left over is dropped.

    Returns:
        Batches of inputs and targets, views of shape (length - 1, rows) in the text's own dtype. A batch of a
        single row is joined to the one before.

    Raises:
        ValueError: the text is shorter than a piece.
    """
    count = len(text) // length
    if count < 1:
        raise ValueError(f"the text has {len(text):,} symbols, too few for one piece of {length:,}")
    rows = text[: count * length].view(count, length)
    batches = list(rows.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [rows[-batch_size - 1 :]]
    return [shifted(batch.t()) for batch in batches]


def shifted(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of symbols (T + 1, rows): all but the last, and all but the first."""
    return symbols[:-1], symbols[1:]


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


class Score:
    """Cross-entropy summed over the batches of an evaluation, and what the papers report of it.

    ``perplexity`` is the exponential of the mean cross-entropy over all predictions. ``batch_perplexity`` is the
    mean over the batches of each one's exponential, as the released code of Laurent et al. 2015 has it; by
    convexity it is the larger of the two.
    """

    def __init__(self) -> None:
        self.nats = self.perplexities = 0.0
        self.correct = self.predictions = self.batches = 0

    def add(self, loss: Tensor, correct: Tensor, predictions: int) -> None:
        """Takes a batch's mean loss in nats, its number of right predictions, and the number of all."""
        self.nats += loss.item() * predictions
        self.perplexities += math.exp(min(loss.item(), 700.0))
        self.correct += int(correct)
        self.predictions += predictions
        self.batches += 1

    @property
    def loss(self) -> float:
        return self.nats / self.predictions

    @property
    def bits(self) -> float:
        return self.loss / math.log(2)

    @property
    def error(self) -> float:
        return 1 - self.correct / self.predictions

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def batch_perplexity(self) -> float:
        return self.perplexities / self.batches
