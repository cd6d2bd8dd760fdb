"""What the loop has to know of an experiment: the :class:`Task` protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from bnrnn.training.optimizers import ClipRule

Statistics = Literal["batch", "population"]
Split = Literal["train", "valid", "test"]
Metrics = dict[str, float]
Carry = dict[str, Tensor]
"""State that goes from one batch of an epoch to the next, for truncated back-propagation; empty without it."""


@dataclass(frozen=True)
class Step:
    """One training step's result.

    Args:
        loss: what is differentiated, a scalar.
        metrics: means over the batch, of all processes, to be logged, detached scalars; ``"loss"`` among them.
        carry: state for the next batch, detached.
        count: over how many equal terms the loss is the mean, rows or whatever else processes have unequally many of.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    carry: Carry = field(default_factory=dict)
    count: float | Tensor = 1.0


@dataclass(frozen=True)
class Plan:
    """How long a run is, how often it is looked at and how its best model is chosen.

    Args:
        updates: the experiment's full length.
        evaluate_every: updates between evaluations on the validation part; 0 for the end of each epoch.
        population_every: updates between evaluations with population statistics as well, each at the first evaluation
            from there on; 0 for the final evaluation only.
        log_every: updates averaged into one training row of the metrics.
        clip: global gradient norm, None for no clipping.
        clip_rule: what is done above it, see :func:`bnrnn.training.optimizers.clip_gradients`.
        selection: the validation metric whose lowest value chooses the model.
        selection_statistics: the statistics that the metric is taken with.
        headline: the metric to show people.
        parts: what the final evaluation and ``bnrnn evaluate`` judge.
        patience: evaluations in a row without a better model after which the run ends; 0 for never.
    """

    updates: int
    evaluate_every: int = 0
    population_every: int = 0
    log_every: int = 50
    clip: float | None = None
    clip_rule: ClipRule = "norm"
    selection: str = "error"
    selection_statistics: Statistics = "batch"
    headline: str = "accuracy"
    parts: tuple[Split, ...] = ("valid", "test")
    patience: int = 0


class Task(Protocol):
    """A model, its data and its loss. Everything but the model's parameters is a pure function of the arguments.

    Attributes:
        seed: the run's seed.
        model: called by its ``forward`` only.
        plan: length, evaluation, selection.
        sources: what the data were read from: names of files or data sets, and the SHA-256 of what was read.
        batch_first: whether the rows of a batch are the first dimension of all its tensors, instead of the second of
            those that have one. Several processes each get their own rows of each batch, :func:`processes.cut`, and of
            the state; what :meth:`loss` and :meth:`evaluate` return is taken over all of them.
    """

    @property
    def seed(self) -> int: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def plan(self) -> Plan: ...

    @property
    def sources(self) -> dict[str, str]: ...

    @property
    def batch_first(self) -> bool: ...

    def optimizer(self) -> Optimizer:
        """A new optimiser over the model's parameters."""
        ...

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        """The rate of one update: a function of its place, from 0, alone."""
        ...

    def epoch_length(self, epoch: int) -> int:
        """Number of updates in an epoch."""
        ...

    def batch(self, epoch: int, position: int) -> Any:
        """The data of one update, a tree of tensors: a function of seed, epoch and position alone."""
        ...

    def start(self, epoch: int) -> Carry:
        """The state that an epoch's first batch starts from."""
        ...

    def loss(self, model: nn.Module, batch: Any, carry: Carry) -> Step:
        """Forward pass and loss of one batch."""
        ...

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics) -> Metrics:
        """Metrics over a whole part; the caller has put the model into evaluation with these statistics."""
        ...

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        """How many rows a statistic is taken over in :meth:`evaluate`: those of an evaluation batch, or of a batch of
        the pass that estimates the population statistics; None without batch normalization. Batches may end in a
        larger or smaller one; this is what the others have.
        """
        ...

    def population_batches(self) -> Iterable[Any]:
        """Arguments of the model's ``forward`` over the training part, for the population statistics."""
        ...
