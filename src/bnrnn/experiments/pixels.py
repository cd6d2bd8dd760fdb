"""Image classification one pixel a step: Cooijmans et al. 2017, section 5.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnrnn
from bnrnn.data import digits, mnist
from bnrnn.experiments.initialization import RecurrentInit, initialize
from bnrnn.experiments.norms import NormName, norm_of
from bnrnn.training import Carry, Metrics, Plan, Purpose, RMSProp, Split, Statistics, Step, generator, seed_of

Cell = Literal["lstm", "gru", "rnn"]
Order = Literal["scan", "permuted", "with-replacement"]
InitialState = Literal["paper", "learnt", "noise", "noise-in-training", "mean-pixel"]


@dataclass(frozen=True)
class PixelConfig:
    """Options of the pixel-by-pixel experiments. Where the paper's text and its released code differ, the default
    is the text.

    Raises:
        ValueError: an option out of its range.
    """

    cell: Cell = "lstm"
    """Recurrent cell."""
    norm: NormName = "recurrent"
    """Normalization; "recurrent" is the BN-LSTM of the paper, "none" its baseline."""
    seed: int = 1
    """Seed of initialisation, order and noise."""
    units: int = 100
    """Hidden units."""
    gamma: float | None = None
    """Initial gain of every batch normalization; None for the preset's own, 0.1 for "recurrent"."""
    epochs: int = 200
    """Length of the run."""
    batch_size: int = 100
    """Images in an update."""
    learning_rate: float = 1e-3
    """Step size of RMSProp."""
    rho: float = 0.9
    """Decay rate of RMSProp's mean square: 0.9 (text), 0.5 (released scripts)."""
    clip: float = 1.0
    """Largest global gradient norm."""
    recurrent_init: RecurrentInit = "identity-candidate"
    """Identity in the candidate block only (released code), in all blocks (text read literally), or nowhere."""
    forget_bias: float = 1.0
    """Initial bias of the LSTM's forget gate (released code); the text has none: 0."""
    cell_shift: bool = True
    """A learnt shift inside the baseline LSTM's output tanh, as the released code has it."""
    initial_state: InitialState = "paper"
    """Learnt, plus noise for each image ("noise"), in training only, or plus the mean pixel ("mean-pixel").
    "paper": noise for a batch-normalized layer on images in scan order, else learnt alone."""
    noise: float = 0.1
    """Standard deviation of that noise."""
    selection: Literal["error", "loss"] = "error"
    """Validation metric that chooses the model."""
    selection_statistics: Statistics = "batch"
    """Statistics that the metric is taken with."""
    population_batch_size: int = 5000
    """Images in a batch of the pass that estimates the population statistics."""
    evaluation_batch_size: int = 1000
    """Images in a batch of every evaluation."""
    evaluate_every: int = 0
    """Updates between evaluations; 0: once an epoch."""
    population_every: int = 5000
    """Updates between evaluations with population statistics as well; 0: at the end only."""
    backend: Literal["auto", "reference", "cpu"] = "auto"
    """Implementation of the recurrence."""

    def __post_init__(self) -> None:
        for name in ("units", "epochs", "batch_size", "population_batch_size", "evaluation_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "evaluate_every", "population_every", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if not 0 <= self.rho < 1:
            raise ValueError(f"rho must be in [0, 1), got {self.rho}")


class PixelClassifier(nn.Module):
    r"""A recurrent layer over the pixels of an image, and a softmax on its last hidden state.

    .. math:: p(y \mid x) = \mathrm{softmax}(W_y h_T + b_y)

    The layer starts from learnt :math:`h_0` (and :math:`c_0`), initially 0, the same for all images. Noise on
    :math:`h_0`, different for each image, keeps the batch variance of the hidden state from vanishing where the
    first pixels are the same in all images (Cooijmans et al. 2017, section 5.1).

    Args:
        config: options.
        noise: standard deviation added to ``h_0`` in training, 0 for none.
        classes: number of labels.
    """

    chunk = 112  # steps at once where no gradient is wanted; bounds the memory of large batches

    def __init__(self, config: PixelConfig, noise: float, classes: int) -> None:
        super().__init__()
        self.config, self.noise = config, noise
        kinds = {"lstm": bnrnn.LSTM, "gru": bnrnn.GRU, "rnn": bnrnn.RNN}
        norm = norm_of(config.norm, config.gamma)
        if norm is None and config.cell == "lstm" and config.cell_shift:
            norm = bnrnn.Norm(cell=bnrnn.Shift())
        self.rnn = kinds[config.cell](1, config.units, norm=norm, backend=config.backend)
        self.h0 = nn.Parameter(torch.zeros(config.units))
        self.c0 = nn.Parameter(torch.zeros(config.units)) if config.cell == "lstm" else None
        self.readout = nn.Linear(config.units, classes)
        initialize(self.rnn, config.recurrent_init, config.forget_bias)
        nn.init.orthogonal_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)
        self._chunked = config.norm != "input-sequence" and config.norm != "sequence-input"

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, pixels) in [0, 1]."""
        steps = pixels.t().to(self.h0.dtype).unsqueeze(-1)
        state = self.initial_state(pixels)
        length = len(steps) if torch.is_grad_enabled() or not self._chunked else self.chunk
        for start in range(0, len(steps), length):
            _, state = self.rnn(steps[start : start + length], state, start_step=start)
        h = state if self.c0 is None else state[0]
        return self.readout(h[-1])

    def initial_state(self, pixels: Tensor) -> Any:
        """The state before the first pixel, drawn anew where it has noise; as the layer takes it."""
        kind, rows = self.config.initial_state, len(pixels)
        h = self.h0.expand(rows, -1)
        if kind == "mean-pixel":
            h = h + pixels.mean(1, keepdim=True)
        elif self.noise and (self.training or kind != "noise-in-training"):
            h = h + self.noise * torch.randn_like(h)
        h = h.unsqueeze(0)
        return h if self.c0 is None else (h, self.c0.expand(1, rows, -1).contiguous())


class PixelTask:
    """Classification of pixel sequences; see :class:`bnrnn.training.Task`.

    Args:
        config: options.
        data: ``"mnist"`` or ``"digits"``.
        order: which pixel comes at which step.
    """

    def __init__(self, config: PixelConfig, data: Literal["mnist", "digits"], order: Order) -> None:
        self.config, self.seed = config, config.seed
        self.images = mnist.load() if data == "mnist" else digits.load()
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

    def learning_rate(self, epoch: int) -> float:
        return self.config.learning_rate

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
        return Step(loss, {"loss": loss.detach(), "accuracy": accuracy})

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics) -> Metrics:
        images, labels = self.parts[split]
        device = self.model.h0.device
        loss = correct = 0.0
        for rows in torch.arange(len(labels)).split(self.config.evaluation_batch_size):
            logits = model(self._pixels(images[rows]).to(device)).cpu()
            loss += F.cross_entropy(logits, labels[rows], reduction="sum").item()
            correct += (logits.argmax(1) == labels[rows]).sum().item()
        accuracy = correct / len(labels)
        return {"loss": loss / len(labels), "accuracy": accuracy, "error": 1 - accuracy}

    def population_batches(self) -> Iterator[tuple[Tensor]]:
        for images in self.images.train_images.split(self.config.population_batch_size):
            yield (self._pixels(images),)

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


def initial_noise(config: PixelConfig, order: Order) -> float:
    """Standard deviation of the noise on the initial hidden state, 0 for none."""
    if config.initial_state == "paper":
        batch_normalized = config.norm not in ("none", "layer")
        return config.noise if batch_normalized and order == "scan" else 0.0
    return config.noise if config.initial_state in ("noise", "noise-in-training") else 0.0
