"""Image classification one pixel a step: Cooijmans et al. 2017, section 5.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnrnn.data import digits, mnist
from bnrnn.experiments.pixels.config import Order, PixelConfig, initial_noise
from bnrnn.experiments.pixels.model import PixelClassifier
from bnrnn.training import (
    Carry,
    Metrics,
    Plan,
    Purpose,
    RMSProp,
    Split,
    Statistics,
    Step,
    generator,
    processes,
    seed_of,
)
from bnrnn.training.batches import batched
from bnrnn.training.evaluation import has_batch_statistics


class PixelTask:
    """Classification of pixel sequences; see :class:`bnrnn.training.Task`.

    Args:
        config: options.
        data: ``"mnist"`` or ``"digits"``.
        order: which pixel comes at which step.
    """

    batch_first = True

    def __init__(self, config: PixelConfig, data: Literal["mnist", "digits"], order: Order) -> None:
        self.config, self.seed = config, config.seed
        self.images = mnist.load() if data == "mnist" else digits.load()
        self.sources = self.images.sources
        self.index = pixel_order(order, self.images.train_images.shape[1])
        self.parts = {
            "train": (self.images.train_images, self.images.train_labels),
            "valid": (self.images.valid_images, self.images.valid_labels),
            "test": (self.images.test_images, self.images.test_labels),
        }
        if config.batch_size > len(self.images.train_labels):
            raise ValueError(
                f"batch_size must be at most {len(self.images.train_labels):,}, the training images,"
                f" got {config.batch_size:,}"
            )
        torch.manual_seed(seed_of(config.seed, Purpose.INITIALIZATION))
        self.model = PixelClassifier(config, initial_noise(config, order), self.images.classes)
        self.plan = Plan(
            updates=config.epochs * self.epoch_length(0),
            patience=config.patience,
            evaluate_every=config.evaluate_every,
            population_every=config.population_every,
            clip=config.clip,
            selection=config.selection,
            selection_statistics=config.selection_statistics,
        )
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def optimizer(self) -> RMSProp:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return RMSProp(parameters, lr=self.config.learning_rate, rho=self.config.rho)

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        config = self.config
        return config.learning_rate * config.rate(epoch, position, self.epoch_length(epoch), config.epochs)

    def epoch_length(self, epoch: int) -> int:
        return len(self.images.train_labels) // self.config.batch_size

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor]:
        """Pixels (batch, steps) in the experiment's order, and labels."""
        if self._order[0] != epoch:
            count = len(self.images.train_labels)
            self._order = (epoch, torch.randperm(count, generator=generator(self.seed, Purpose.ORDER, epoch)))
        size = self.config.batch_size
        rows = self._order[1][position * size : (position + 1) * size]
        return self._pixels(self.images.train_images[rows]), self.images.train_labels[rows]

    def start(self, epoch: int) -> Carry:
        return {}

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], carry: Carry) -> Step:
        pixels, labels = batch
        logits = model(pixels)
        loss = F.cross_entropy(logits, labels)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        rows = len(labels)
        return Step(loss, processes.means({"loss": loss.detach(), "accuracy": accuracy}, rows), count=rows)

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics, rows: int | None = None) -> Metrics:
        """Loss, accuracy and error, in an order drawn once for the run; in batches of ``rows`` where the config's are
        not meant.

        The order matters: images that stand together in MNIST's files are alike, and a batch of neighbours has other
        statistics than the shuffled ones of training.
        """
        images, labels = self.parts[split]
        order = torch.randperm(len(labels), generator=generator(self.seed, Purpose.EVALUATION))
        device = self.model.h0.device
        loss = correct = 0.0
        for places in batched(order, rows or self.config.evaluation_batch_size):
            own = processes.share(len(places))
            places = places[own.rows]
            logits = model(self._pixels(images[places]).to(device)).cpu()
            loss += own.weight * F.cross_entropy(logits, labels[places], reduction="sum").item()
            correct += own.weight * (logits.argmax(1) == labels[places]).sum().item()
        loss, correct = processes.totals(loss, correct)
        accuracy = correct / len(labels)
        return {"loss": loss / len(labels), "accuracy": accuracy, "error": 1 - accuracy}

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        if not has_batch_statistics(self.model):
            return None
        if statistics == "population":
            return min(self.config.population_batch_size, len(self.images.train_labels))
        return min(self.config.evaluation_batch_size, self.most_rows(split))

    def most_rows(self, split: Split) -> int:
        """The largest batch that a part can be evaluated in."""
        return len(self.parts[split][1])

    def population_batches(self) -> Iterator[tuple[Tensor]]:
        """The training images, in an order drawn once for the run."""
        images = self.images.train_images
        order = torch.randperm(len(images), generator=generator(self.seed, Purpose.POPULATION))
        for places in batched(order, self.config.population_batch_size):
            yield (self._pixels(images[places]),)

    def _pixels(self, images: Tensor) -> Tensor:
        return images[:, self.index].float() / self.images.maximum


def pixel_order(order: Order, pixels: int, seed: int = 1) -> Tensor:
    """The pixel shown at each step.

    ``"with-replacement"`` draws each step's pixel independently, as the released code does with seed 1: of 784
    pixels 501 are shown, some several times, 283 never.

    Returns:
        int64 (pixels,).

    Raises:
        ValueError: unknown order.
    """
    random = np.random.RandomState(seed)
    if order == "scan":
        return torch.arange(pixels)
    if order == "permuted":
        return torch.from_numpy(random.permutation(pixels))
    if order == "with-replacement":
        return torch.from_numpy(random.randint(0, pixels, pixels))
    raise ValueError(f"order must be scan, permuted or with-replacement, got {order!r}")
