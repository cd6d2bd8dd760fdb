"""What a language model is judged by."""

from __future__ import annotations

import math

from bnrnn.training import processes
from bnrnn.training.loss import Predicted


class Score:
    """Cross-entropy summed over the batches of an evaluation, and what the papers report of it.

    ``perplexity`` is the exponential of the mean cross-entropy over all predictions. ``batch_perplexity`` is the
    mean over the batches of the exponential of each one's loss, as the released code of Laurent et al. 2015 has it. By
    convexity it is the larger of the two where the loss is the cross-entropy; a floor of the probabilities bounds
    the loss of what is thought impossible and so lowers it.
    """

    def __init__(self) -> None:
        self.nats = self.perplexities = 0.0
        self.correct = self.predictions = self.batches = 0

    def add(self, predicted: Predicted, predictions: int, weight: float = 1.0) -> None:
        """Takes what was predicted of a batch, or of each process's rows of it.

        Args:
            predicted: of the rows.
            predictions: how many there were.
            weight: of the rows, see :class:`bnrnn.training.processes.Share`.
        """
        nats, loss = predicted.cross_entropy.item() * predictions, predicted.loss.item()
        correct = int(predicted.correct)
        if processes.world() > 1:
            count = weight * predictions
            sums = processes.totals(weight * nats, count * loss, weight * correct, count)
            nats, correct, predictions = sums[0], round(sums[2]), round(sums[3])
            loss = sums[1] / sums[3]
        self.nats += nats
        self.perplexities += math.exp(min(loss, 700.0))
        self.correct += correct
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
