"""Word-level Penn Treebank: Laurent et al. 2015, section 5.2, after Zaremba et al. 2014."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.config import Config
from bnrnn.experiments.language.model import LAYERS, LanguageModel, State, carry_of, causal_norm, state_of
from bnrnn.experiments.norms import NormName
from bnrnn.training import Carry, Metrics, Plan, Purpose, Statistics, Step, processes, seed_of
from bnrnn.training.batches import Streams
from bnrnn.training.evaluation import has_batch_statistics
from bnrnn.training.score import Score
from bnrnn.training.task import Split


@dataclass(frozen=True)
class Schedule:
    """How a run goes, as the paper's text or the released code has it.

    Args:
        epochs: length.
        constant: epochs before the first decay of the step size.
        every: epochs between decays.
        divisor: of the step size at each.
        rounds: how often in an epoch the model is validated and the carried state is set back to zero.
        floor: what the loss adds to each probability.
    """

    epochs: int
    constant: int
    every: int
    divisor: float
    rounds: Literal[1, 2] = 1
    floor: float = 0.0


SCHEDULES = {
    ("small", "text"): Schedule(15, 6, 1, 2.0),
    ("small", "released"): Schedule(5, 4, 4, 2.0, rounds=2, floor=1e-6),
    ("medium", "text"): Schedule(40, 6, 1, 1.2),
    ("medium", "released"): Schedule(39, 6, 1, 1.2, rounds=2, floor=1e-6),
    ("large", "text"): Schedule(55, 15, 1, 1.15),
    ("large", "released"): Schedule(55, 14, 1, 1.15, rounds=2, floor=1e-6),
}


@dataclass(frozen=True)
class WordConfig(Config):
    """Options of the word-level language models; the defaults are those of the small one.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    norm: NormName = "input-frame"
    """Normalization; "input-frame" is the paper's, "none" its baseline."""
    units: int = 200
    """Hidden units of each of the two layers, and features of the embedding."""
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
    schedule: Literal["text", "released"] = "released"
    """Length, decay of the step size, evaluations, resets and floor: as the paper's text has them, or its released
    code."""
    epochs: int | None = None
    """Length of the run; None for the schedule's own."""
    learning_rate: float = 1.0
    """Step size of SGD at first."""
    clip: float = 5.0
    """Largest global gradient norm: 5, 5, 10 for the three sizes (released code); a draft has 10, 5, 5."""
    resets: Literal[1, 2] | None = None
    """How often in an epoch the carried state is set back to zero; None for the schedule's own: 1 (text), 2 (released
    code, at each of its validations)."""
    probability_floor: float | None = None
    """What the loss adds to each probability, in training and in ``batch_perplexity``; None for the schedule's own: 0
    (text), 1e-6 (released code)."""
    evaluate_every: int = 0
    """Updates between evaluations; 0 for the schedule's own: once an epoch (text), twice (released code)."""

    LEAST: ClassVar = {**Config.LEAST, "steps": 1, "probability_floor": 0}
    POSITIVE: ClassVar = (*Config.POSITIVE, "init")
    EARLIER: ClassVar = {"probability_floor": 0.0}

    @property
    def rules(self) -> Schedule:
        """The schedule, with what the options change of it."""
        rules = SCHEDULES[self.size, self.schedule]
        return replace(
            rules,
            epochs=self.epochs or rules.epochs,
            floor=rules.floor if self.probability_floor is None else self.probability_floor,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        causal_norm(self.norm, self.gamma)
        own = SCHEDULES[self.size, self.schedule]
        for name, value in (("resets", own.rounds), ("probability_floor", own.floor)):
            if getattr(self, name) == value:  # one way to say it, so that equal runs have equal configs
                object.__setattr__(self, name, None)

    @torch.no_grad()
    def build_model(self, vocabulary: Vocabulary) -> LanguageModel:
        """The model with its initial parameters."""
        torch.manual_seed(seed_of(self.seed, Purpose.INITIALIZATION))
        norm = causal_norm(self.norm, self.gamma)
        rnn = LAYERS[self.cell](
            self.units, self.units, num_layers=2, dropout=self.dropout, norm=norm, backend=self.backend
        )
        model = LanguageModel(vocabulary, rnn, embedding=self.units, dropout=self.dropout, floor=self.rules.floor)
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

    batch_first = False

    def __init__(self, config: WordConfig, corpus: Corpus) -> None:
        self.config, self.seed, self.sources = config, config.seed, corpus.sources
        self.parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
        self.streams = {split: Streams(part, config.batch_size, config.steps) for split, part in self.parts.items()}
        self.model = config.build_model(corpus.vocabulary)
        self.rules = config.rules
        length = self.epoch_length(0)
        part = length // self.rules.rounds
        resets = config.resets or self.rules.rounds
        self.starts = {turn * length // resets for turn in range(resets)}
        self.plan = Plan(
            updates=self.rules.epochs * length,
            patience=config.patience,
            evaluate_every=config.evaluate_every or (part if self.rules.rounds > 1 else 0),
            # rows of training metrics that end where evaluations do: the training perplexity is that between two
            log_every=next((every for every in range(50, 19, -1) if part % every == 0), 50),
            population_every=config.population_every,
            clip=config.clip,
            selection="batch_perplexity",
            selection_statistics=config.selection_statistics,
            headline="batch_perplexity",
        )

    def optimizer(self) -> SGD:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return SGD(parameters, lr=self.config.learning_rate)

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        """The first rate for some epochs, then divided again and again, as the schedule says."""
        decays = max(0, (epoch - self.rules.constant) // self.rules.every + 1)
        other = self.config.rate(epoch, position, self.epoch_length(epoch), self.rules.epochs)
        return self.config.learning_rate / self.rules.divisor**decays * other

    def epoch_length(self, epoch: int) -> int:
        return self.streams["train"].count

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets, int64 (steps, rows), and 0 where the state starts anew, else 1."""
        return (*self.streams["train"].batch(position), torch.tensor(float(position not in self.starts)))

    def start(self, epoch: int) -> Carry:
        return carry_of(self.model.start(self.config.batch_size))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], carry: Carry) -> Step:
        tokens, targets, keep = batch
        predicted, state = model(tokens, targets, tuple(value * keep for value in state_of(carry)))
        count = targets.numel()
        mean = processes.means({"loss": predicted.loss.detach()}, count)["loss"]
        return Step(predicted.loss * len(tokens), {"loss": mean, "perplexity": mean.exp()}, carry_of(state), count)

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics, rows: int | None = None) -> Metrics:
        """Both perplexities over the part's streams, the state carried along.

        ``rows``: streams where the config's are not meant. With others the text is cut elsewhere.
        """
        device = next(model.parameters()).device
        score = Score()
        streams = Streams(self.parts[split], rows, self.config.steps) if rows else self.streams[split]
        state: State | None = None
        for position in range(streams.count):
            whole = streams.batch(position)
            weight = processes.share(whole[0].shape[1]).weight
            tokens, targets = processes.cut(whole)
            predicted, state = model(tokens.to(device), targets.to(device), state)
            score.add(predicted, targets.numel(), weight)
        return {
            "loss": score.loss,
            "perplexity": score.perplexity,
            "batch_perplexity": score.batch_perplexity,
            "error": score.error,
        }

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        return self.config.batch_size if has_batch_statistics(self.model) else None

    def most_rows(self, split: Split) -> int:
        """The largest number of streams that fill a window with a part."""
        return len(self.parts[split]) // (self.config.steps + 1)

    def population_batches(self) -> Iterator[dict[str, Any]]:
        """The training part as one call, in which the model carries its state from window to window."""
        streams = self.streams["train"]
        tokens = streams.symbols[: streams.count * streams.window].long()
        yield {"tokens": tokens, "window": streams.window, "readout": "none"}
