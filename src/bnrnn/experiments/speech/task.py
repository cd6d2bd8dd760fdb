"""Classification of the frames of utterances."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD

from bnrnn.data.loading import Loader
from bnrnn.data.speech import Part, padding, plan_batches, tensors
from bnrnn.experiments.norms import norm_of, takes_frame_statistics
from bnrnn.experiments.speech.config import SpeechConfig
from bnrnn.experiments.speech.model import FrameClassifier
from bnrnn.training import Carry, Metrics, Plan, Purpose, Split, Statistics, Step, processes, seed_of
from bnrnn.training.evaluation import has_batch_statistics


class SpeechTask:
    """Frames of utterances to targets; see :class:`bnrnn.training.Task`.

    Args:
        config: options.
        train: the training part.
        valid: the development part, with the same targets and dimensions.
        sources: what they were read from, beside the features themselves.
    """

    batch_first = False

    def __init__(self, config: SpeechConfig, train: Part, valid: Part, sources: dict[str, str]) -> None:
        self.config, self.seed = config, config.seed
        self.parts = {"train": train, "valid": valid}
        self.sources = {**sources, "train": train.digest, "valid": valid.digest}
        if config.batch_size > len(train.names):
            raise ValueError(
                f"batch_size must be at most {len(train.names):,}, the training utterances, got {config.batch_size:,}"
            )
        torch.manual_seed(seed_of(config.seed, Purpose.INITIALIZATION))
        self.model = FrameClassifier(config, train.dimensions, train.classes)
        self.model.priors.copy_(torch.from_numpy(train.counts() / train.frames))
        self.loader = Loader(self.parts, config.worker)
        self._least = 2 if takes_frame_statistics(norm_of(config.norm, config.gamma)) else 1
        self._order: tuple[int, list[np.ndarray]] = (-1, [])
        self._length = len(self._batches(0))
        self.plan = Plan(
            updates=config.epochs * self._length,
            evaluate_every=config.evaluate_every,
            population_every=config.population_every,
            clip=config.clip,
            selection=config.selection,
            selection_statistics=config.selection_statistics,
            log_every=20,
            headline="fce",
            parts=("train", "valid"),
        )
        self._stream: tuple[tuple[int, int], Iterator[dict[str, np.ndarray]]] | None = None
        self._asked = 0.0
        self._waiting = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """What the data are, for the record."""
        train, config = self.parts["train"], self.config
        return {
            "classes": train.classes,
            "dimensions": train.dimensions,
            "padding": round(padding(train.lengths, self._batches(0)), 4),
            "batches": self._length,
            **{
                name: {"utterances": len(part.names), "frames": part.frames, "left_out": part.left_out}
                for name, part in self.parts.items()
            },
            "max_frames": config.max_frames,
        }

    def optimizer(self) -> SGD:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return SGD(parameters, lr=self.config.learning_rate, momentum=self.config.momentum)

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        return self.config.learning_rate * self.config.rate(epoch, position, self._length, self.config.epochs)

    def epoch_length(self, epoch: int) -> int:
        return self._length

    def batch(self, epoch: int, position: int) -> dict[str, Tensor]:
        """Features ``(T, B, dimensions)``, lengths and targets, built ahead while the updates before were computed."""
        started = time.perf_counter()
        if self._stream is None or self._stream[0] != (epoch, position):
            self._stream = ((epoch, position), self.loader.batches("train", self._places(epoch, position)))
        found = tensors(next(self._stream[1]))
        following = (epoch, position + 1) if position + 1 < self._length else (epoch + 1, 0)
        self._stream = (following, self._stream[1])
        done = time.perf_counter()
        self._waiting = (done - started) / (done - self._asked) if self._asked else 0.0
        self._asked = done
        return found

    def start(self, epoch: int) -> Carry:
        return {}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], carry: Carry) -> Step:
        fce, correct = model(**batch)
        frames, rows = batch["lengths"].sum(), len(batch["lengths"])
        loss = fce if self.config.loss == "frame" else fce * (frames / rows)
        count = frames if self.config.loss == "frame" else rows
        metrics = {
            **processes.means({"loss": loss.detach()}, count),
            **processes.means({"fce": fce.detach(), "fer": 1 - correct / frames}, frames),
            **processes.means({"waiting": torch.tensor(self._waiting)}, 1),
        }
        return Step(loss, metrics, count=count)

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics) -> Metrics:
        """Frame cross-entropy in nats and frame error rate, over all frames of the part alike."""
        part, device = self.parts[split], self.model.priors.device
        plan = plan_batches(part.lengths, self.config.evaluation_batch_size, 1.0, None)  # full batches, however padded
        total = wrong = 0.0
        for found in self.loader.batches(split, plan):
            weight = processes.share(len(found["lengths"])).weight
            batch = {name: value.to(device) for name, value in processes.cut(tensors(found)).items()}
            fce, correct = model(**batch)
            frames = int(batch["lengths"].sum())
            total += weight * (fce.item() * frames)
            wrong += weight * (frames - int(correct))
        total, wrong = processes.totals(total, wrong)
        return {"fce": total / part.frames, "fer": wrong / part.frames}

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        if not has_batch_statistics(self.model):
            return None
        size = self.config.batch_size if statistics == "population" else self.config.evaluation_batch_size
        return min(size, len(self.parts["train" if statistics == "population" else split].names))

    def population_batches(self) -> Iterator[dict[str, Any]]:
        plan = self._batches(0)[: self.config.population_batches or None]
        for found in self.loader.batches("train", plan):
            batch = tensors(found)
            yield {"features": batch["features"], "lengths": batch["lengths"], "readout": False}

    def _batches(self, epoch: int) -> list[np.ndarray]:
        if self._order[0] != epoch:
            random = np.random.default_rng(seed_of(self.seed, Purpose.ORDER, epoch))
            lengths = self.parts["train"].lengths
            size, share = self.config.batch_size, self.config.max_padding
            self._order = (epoch, plan_batches(lengths, size, share, random, self._least))
        return self._order[1]

    def _places(self, epoch: int, position: int) -> Iterator[np.ndarray]:
        while True:
            yield from self._batches(epoch)[position:]
            epoch, position = epoch + 1, 0
