"""What a language model is judged by."""

from __future__ import annotations

import math

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

    def add(self, predicted: Predicted, predictions: int) -> None:
        """Takes what was predicted of a batch, and the number of its predictions."""
        self.nats += predicted.cross_entropy.item() * predictions
        self.perplexities += math.exp(min(predicted.loss.item(), 700.0))
        self.correct += int(predicted.correct)
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
