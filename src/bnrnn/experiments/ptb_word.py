"""Word-level Penn Treebank: Laurent et al. 2015, section 5.2, after Zaremba et al. 2014."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD

from bnrnn.data import ptb
from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.experiment import Experiment
from bnrnn.experiments.language import LAYERS, Cell, LanguageModel, State, carry_of, causal_norm, state_of
from bnrnn.experiments.norms import NormName
from bnrnn.training import Carry, Metrics, Plan, Purpose, Statistics, Step, seed_of
from bnrnn.training.language import Score, Streams
from bnrnn.training.task import Split


@dataclass(frozen=True)
class Schedule:
    """Epochs of a run; epochs before the first decay of the step size; epochs between decays; the divisor."""

    epochs: int
    constant: int
    every: int
    divisor: float


SCHEDULES = {
    ("small", "text"): Schedule(15, 6, 1, 2.0),
    ("small", "released"): Schedule(5, 4, 4, 2.0),
    ("medium", "text"): Schedule(40, 6, 1, 1.2),
    ("medium", "released"): Schedule(39, 6, 1, 1.2),
    ("large", "text"): Schedule(55, 15, 1, 1.15),
    ("large", "released"): Schedule(55, 14, 1, 1.15),
}


@dataclass(frozen=True)
class WordConfig:
    """Options of the word-level language models; the defaults are those of the small one.

    Raises:
        ValueError: an option out of its range.
    """

    cell: Cell = "lstm"
    """Recurrent cell."""
    norm: NormName = "input-frame"
    """Normalization; "input-frame" is the paper's, "none" its baseline."""
    seed: int = 1
    """Seed of initialisation and dropout."""
    units: int = 200
    """Hidden units of each of the two layers, and features of the embedding."""
    gamma: float | None = None
    """Initial gain of every batch normalization; None for the preset's own, 1 for "input-frame"."""
    dropout: float = 0.0
    """On the embedding, between the layers and before the softmax."""
    init: float = 0.1
    """All parameters are drawn from U(-init, init), but for gains and the biases of a normalized layer."""
    steps: int = 20
    """Window of the truncated back-propagation."""
    batch_size: int = 32
    """Streams read in parallel (final paper; its draft has 20)."""
    size: Literal["small", "medium", "large"] = "small"
    """The net whose schedule holds."""
    schedule: Literal["text", "released"] = "text"
    """Length and decay of the step size: as the paper's text has them, or its released code."""
    epochs: int | None = None
    """Length of the run; None for the schedule's own."""
    learning_rate: float = 1.0
    """Step size of SGD at first."""
    clip: float = 5.0
    """Largest global gradient norm."""
    resets: Literal[1, 2] = 1
    """How often in an epoch the carried state is set back to zero; the released code does it twice."""
    population_every: int = 0
    """Updates between evaluations with population statistics as well; 0: at the end only."""
    selection_statistics: Statistics = "batch"
    """Statistics that the model is chosen with."""
    backend: Literal["auto", "reference", "cpu"] = "auto"
    """Implementation of the recurrence."""

    def __post_init__(self) -> None:
        for name, least in (
            ("units", 1),
            ("steps", 1),
            ("batch_size", 1),
            ("seed", 0),
            ("population_every", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        for name in ("learning_rate", "clip", "init"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        causal_norm(self.norm, self.gamma)

    @torch.no_grad()
    def build_model(self, vocabulary: Vocabulary) -> LanguageModel:
        """The model with its initial parameters."""
        torch.manual_seed(seed_of(self.seed, Purpose.INITIALIZATION))
        norm = causal_norm(self.norm, self.gamma)
        rnn = LAYERS[self.cell](
            self.units, self.units, num_layers=2, dropout=self.dropout, norm=norm, backend=self.backend
        )
        model = LanguageModel(vocabulary, rnn, embedding=self.units, dropout=self.dropout)
        for name, parameter in model.named_parameters():
            if ".bias_hh" in name and self.cell != "gru":
                nn.init.zeros_(parameter)  # torch.nn's second bias, of which the paper has none
                parameter.requires_grad_(False)
            elif ".bias_ih" in name and norm is not None:
                nn.init.zeros_(parameter)
            elif parameter.requires_grad and "norm_" not in name:
                nn.init.uniform_(parameter, -self.init, self.init)
        return model


class WordTask:
    """Prediction of each next word, the state carried along; see :class:`bnrnn.training.Task`.

    The loss is the cross-entropy summed over the steps and averaged over the rows, on which the step size and the
    clipping of Zaremba et al. rest. Frame-wise statistics belong to positions in the window, not in the text.

    Raises:
        ValueError: a part of the text does not fill one window.
    """

    def __init__(self, config: WordConfig, corpus: Corpus) -> None:
        self.config, self.seed = config, config.seed
        parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
        self.streams = {split: Streams(part, config.batch_size, config.steps) for split, part in parts.items()}
        self.model = config.build_model(corpus.vocabulary)
        self.schedule = SCHEDULES[config.size, config.schedule]
        self.plan = Plan(
            updates=(config.epochs or self.schedule.epochs) * self.epoch_length(0),
            population_every=config.population_every,
            clip=config.clip,
            selection="batch_perplexity",
            selection_statistics=config.selection_statistics,
            headline="batch_perplexity",
        )

    def optimizer(self) -> SGD:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return SGD(parameters, lr=self.config.learning_rate)

    def learning_rate(self, epoch: int) -> float:
        """The first rate for some epochs, then divided again and again, as the schedule says."""
        decays = max(0, (epoch - self.schedule.constant) // self.schedule.every + 1)
        return self.config.learning_rate / self.schedule.divisor**decays

    def epoch_length(self, epoch: int) -> int:
        return self.streams["train"].count

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets, int64 (steps, rows), and 0 where the state starts anew, else 1."""
        length = self.epoch_length(epoch)
        starts = {reset * length // self.config.resets for reset in range(self.config.resets)}
        return (*self.streams["train"].batch(position), torch.tensor(float(position not in starts)))

    def start(self, epoch: int) -> Carry:
        return carry_of(self.model.start(self.config.batch_size))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], carry: Carry) -> Step:
        tokens, targets, keep = batch
        (loss, _), state = model(tokens, targets, tuple(value * keep for value in state_of(carry)))
        mean = loss.detach()
        return Step(loss * len(tokens), {"loss": mean, "perplexity": mean.exp()}, carry_of(state))

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics) -> Metrics:
        """Both perplexities over the part's streams, the state carried along."""
        device = next(model.parameters()).device
        streams, score = self.streams[split], Score()
        state: State | None = None
        for position in range(streams.count):
            tokens, targets = streams.batch(position)
            (loss, correct), state = model(tokens.to(device), targets.to(device), state)
            score.add(loss, correct, targets.numel())
        return {
            "loss": score.loss,
            "perplexity": score.perplexity,
            "batch_perplexity": score.batch_perplexity,
            "error": score.error,
        }

    def population_batches(self) -> Iterator[dict[str, Any]]:
        """The training part as one call, in which the model carries its state from window to window."""
        streams = self.streams["train"]
        tokens = streams.symbols[: streams.count * streams.window].long()
        yield {"tokens": tokens, "window": streams.window, "readout": "none"}


_SMALL = WordConfig()
_MEDIUM = replace(_SMALL, size="medium", units=650, dropout=0.5, init=0.05, steps=35)
_LARGE = replace(_SMALL, size="large", units=1500, dropout=0.65, init=0.04, steps=35, clip=10.0)


def _label(config: WordConfig) -> str:
    schedule = "" if config.schedule == "text" else f"-{config.schedule}"
    return f"{config.cell}-{config.norm}{schedule}-seed{config.seed}"


def _experiment(name: str, config: WordConfig, cost: str) -> Experiment:
    return Experiment(
        name=f"ptb-word-{name}",
        summary=f"Penn Treebank by words, two layers of {config.units} units, state carried over",
        paper="Laurent et al. 2015, 5.2",
        target="Table 2" + ("; Figure 3" if name == "large" else ""),
        data="ptb",
        cost=cost,
        config=config,
        build=lambda config: WordTask(config, ptb.words()),
        label=_label,
    )


PTB_WORD_SMALL = _experiment("small", _SMALL, "21,780 updates; half an hour to an hour on 2 cores")
PTB_WORD_MEDIUM = _experiment("medium", _MEDIUM, "33,160 updates; 8 h on 2 cores")
PTB_WORD_LARGE = _experiment("large", _LARGE, "45,595 updates; 2 days on 2 cores")
