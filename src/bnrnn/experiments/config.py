"""The options that every experiment has, and the checks that theirs share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bnrnn.experiments.norms import NormName, norm_of, takes_frame_statistics
from bnrnn.training import Statistics

Cell = Literal["lstm", "gru", "rnn"]
Backend = Literal["auto", "reference", "cpu", "triton"]
"""Implementations of the recurrence that a run can name."""


@dataclass(frozen=True)
class BaseConfig:
    """Options that every run has. A kind of experiment adds its own and gives these its defaults.

    Raises:
        ValueError: an option out of its range.
    """

    seed: int = 1
    """Seed of initialisation, order and noise."""
    clip: float | None = 1.0
    """Largest global gradient norm; None: no clipping."""
    selection_statistics: Statistics = "batch"
    """Statistics that the model is chosen with."""
    evaluate_every: int = 0
    """Updates between evaluations; 0: once an epoch."""
    population_every: int = 0
    """Updates between evaluations with population statistics as well; 0: at the end only."""
    backend: Backend = "auto"
    """Implementation of the recurrence."""

    LEAST: ClassVar[dict[str, int]] = {"seed": 0, "evaluate_every": 0, "population_every": 0}
    """The least value of each option that counts something."""
    POSITIVE: ClassVar[tuple[str, ...]] = ("clip",)
    """Options that must be greater than 0."""
    EVALUATION: ClassVar[tuple[str, ...]] = ("selection_statistics", "evaluate_every", "population_every")
    """Options that touch no training."""
    EARLIER: ClassVar[dict[str, Any]] = {}
    """Of options that came later and whose default changes a run: the value that older runs were made with."""

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        """The options that a run may go on with others of, its training being the same bit for bit."""
        return self.EVALUATION

    def __post_init__(self) -> None:
        for name, least in self.LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in self.POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")


@dataclass(frozen=True)
class Config(BaseConfig):
    """Options of a run whose recurrent layer has a cell and a normalization by name.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    cell: Cell = "lstm"
    """Recurrent cell."""
    norm: NormName = "recurrent"
    """Normalization; "none" for the baseline."""
    units: int = 100
    """Hidden units of a layer."""
    gamma: float | None = None
    """Initial gain of every batch normalization; None for the preset's own."""
    epochs: int | None = None
    """Length of the run."""
    batch_size: int = 100
    """Rows of an update."""
    learning_rate: float = 1e-3
    """Step size at first, and all along without decay."""
    warmup: int = 0
    """Updates over which the step size grows to its full value."""
    decay: Literal["none", "linear", "cosine", "halving"] = "none"
    """How the step size falls over the run: to 0 along a line or half a cosine, or by half again and again. The papers'
    image and character models keep it."""
    decay_epochs: int = 1
    """Epochs between halvings."""
    patience: int = 0
    """Evaluations in a row without a better selection value after which the run ends; 0: it has its full length."""

    LEAST: ClassVar[dict[str, int]] = {
        **BaseConfig.LEAST,
        "units": 1,
        "epochs": 1,
        "batch_size": 1,
        "warmup": 0,
        "decay_epochs": 1,
        "patience": 0,
    }
    POSITIVE: ClassVar[tuple[str, ...]] = (*BaseConfig.POSITIVE, "learning_rate", "gamma")
    ROWS: ClassVar[tuple[str, ...]] = ("batch_size",)
    """Options that say over how many rows statistics are taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        norm = norm_of(self.norm, self.gamma)
        if self.decay_epochs != 1 and self.decay != "halving":
            raise ValueError(f"decay_epochs belongs to decay 'halving', and decay is {self.decay!r}")
        if self.gamma is not None and self.norm in ("none", "layer"):
            raise ValueError(f"gamma is the gain of a batch normalization, and norm {self.norm!r} has none")
        if takes_frame_statistics(norm):
            for name in self.ROWS:
                if getattr(self, name) == 1:
                    raise ValueError(
                        f"{name} must be at least 2 with norm {self.norm!r}, got 1: one row has no batch statistics"
                    )

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        """As of :class:`BaseConfig`; none where evaluations decide how long the training is."""
        return () if self.patience else self.EVALUATION

    def rate(self, epoch: int, position: int, length: int, epochs: int) -> float:
        """What the step size of an update is multiplied with by warm-up and decay.

        Args:
            epoch, position: the update's place, from 0.
            length: updates of an epoch.
            epochs: length of the run.
        """
        update = epoch * length + position
        done = update / (epochs * length)
        warm = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        match self.decay:
            case "linear":
                return warm * (1 - done)
            case "cosine":
                return warm * (1 + math.cos(math.pi * done)) / 2
            case "halving":
                return warm * 0.5 ** (epoch // self.decay_epochs)
        return warm
