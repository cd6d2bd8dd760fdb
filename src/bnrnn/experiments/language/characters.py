"""Character-level language models: Cooijmans et al. 2017, sections 5.2 and 5.3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import bnrnn
from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.config import Config
from bnrnn.experiments.initialization import RecurrentInit, initialize
from bnrnn.experiments.language.model import LAYERS, LanguageModel, State, carry_of, causal_norm, state_of
from bnrnn.training import Adam, Carry, Metrics, Plan, Purpose, Statistics, Step, generator, processes, seed_of
from bnrnn.training.batches import Sequences, Streams, pieces, shifted
from bnrnn.training.evaluation import has_batch_statistics
from bnrnn.training.score import Score
from bnrnn.training.task import Split

AS_PUBLISHED = ("cell", "units", "batch_size", "length", "carry_state", "layers", "dropout", "zoneout", "zoneout_cell")
"""Options that must be as by default for the paper's numbers to stand beside a run's."""
CHUNK = 200  # steps at once where no gradient is wanted; bounds the memory of long sequences


@dataclass(frozen=True)
class CharacterConfig(Config):
    """Options of the character-level language models.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    units: int = 1000
    """Hidden units of a layer."""
    layers: int = 1
    """Recurrent layers."""
    dropout: float = 0.0
    """Probability of dropping an output, between the layers and before the softmax."""
    zoneout: float = 0.0
    """Probability that a unit of the hidden state keeps its old value (Krueger et al. 2017: 0.05)."""
    zoneout_cell: float = 0.0
    """The same of the LSTM's cell (Krueger et al. 2017: 0.5)."""
    epochs: int = 20
    """Length of the run."""
    batch_size: int = 64
    """Sequences in an update."""
    length: int = 100
    """Symbols of a sequence, one more than its predictions."""
    carry_state: bool = False
    """Read the text as contiguous streams and carry the state from one sequence to the next (truncated
    back-propagation); the paper starts each sequence anew."""
    learning_rate: float = 2e-3
    """Step size of Adam."""
    recurrent_init: RecurrentInit = "orthogonal"
    """Initialisation of the recurrent weights."""
    forget_bias: float = 1.0
    """Initial bias of the LSTM's forget gate (released code); the text has none: 0."""
    cell_shift: bool = True
    """A learnt shift inside the baseline LSTM's output tanh, as the released code has it."""
    selection: Literal["error", "loss"] = "error"
    """Validation metric that chooses the model."""
    population_batch_size: int = 100
    """Sequences in a batch of the pass that estimates the population statistics."""
    evaluation_batch_size: int = 64
    """Pieces in a batch of every evaluation: the rows of its batch statistics."""
    valid_pieces: int = 0
    """Pieces of the validation part that an evaluation takes; 0: all."""
    whole_test: bool = True
    """Score the test part as one sequence as well, at the end; a million symbols take minutes to hours."""

    LEAST: ClassVar = {
        **Config.LEAST,
        "layers": 1,
        "length": 2,
        "population_batch_size": 1,
        "evaluation_batch_size": 1,
        "valid_pieces": 0,
    }
    ROWS: ClassVar = (*Config.ROWS, "population_batch_size", "evaluation_batch_size")
    EVALUATION: ClassVar = (
        *Config.EVALUATION,
        "selection",
        "population_batch_size",
        "evaluation_batch_size",
        "valid_pieces",
        "whole_test",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        causal_norm(self.norm, self.gamma)
        for name in ("dropout", "zoneout", "zoneout_cell"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.cell != "lstm" and self.zoneout_cell:
            raise ValueError(f"zoneout_cell is of an LSTM's cell, and cell is {self.cell!r}; take zoneout")

    def build_model(self, vocabulary: Vocabulary) -> LanguageModel:
        """The model with its initial parameters: orthogonal matrices, zero biases, learnt initial state."""
        torch.manual_seed(seed_of(self.seed, Purpose.INITIALIZATION))
        norm = causal_norm(self.norm, self.gamma)
        if norm is None and self.cell == "lstm" and self.cell_shift:
            norm = bnrnn.Norm(cell=bnrnn.Shift())
        zoneout: Any = (self.zoneout_cell, self.zoneout) if self.cell == "lstm" else self.zoneout
        rnn = LAYERS[self.cell](
            len(vocabulary),
            self.units,
            num_layers=self.layers,
            dropout=self.dropout if self.layers > 1 else 0.0,
            zoneout=zoneout,
            norm=norm,
            backend=self.backend,
        )
        model = LanguageModel(vocabulary, rnn, dropout=self.dropout, learn_state=True)
        initialize(rnn, self.recurrent_init, self.forget_bias)
        nn.init.orthogonal_(model.readout.weight)
        nn.init.zeros_(model.readout.bias)
        return model


class CharacterTask:
    """Prediction of each next character; see :class:`bnrnn.training.Task`.

    Args:
        config: options.
        corpus: the text.
        test_lengths: lengths of the pieces that the test part is scored in, beside the training length.

    Raises:
        ValueError: a part of the text is too short.
    """

    batch_first = False

    def __init__(self, config: CharacterConfig, corpus: Corpus, test_lengths: tuple[int, ...] = ()) -> None:
        self.config, self.corpus, self.seed = config, corpus, config.seed
        self.sources, self.test_lengths = corpus.sources, test_lengths
        if config.carry_state:
            self.streams = Streams(corpus.train, config.batch_size, config.length - 1)
            updates = self.streams.count
        else:
            self.sequences = Sequences(corpus.train, config.length, config.batch_size, config.seed)
            updates = self.sequences.epoch_length
        for split, part in (("validation", corpus.valid), ("test", corpus.test)):
            if len(part) < 2 * config.length:
                raise ValueError(
                    f"the {split} part of {corpus.name} has {len(part):,} symbols, too few for two pieces of"
                    f" {config.length:,}; lower length or give more text"
                )
        if not config.carry_state and config.batch_size > self.sequences.count:
            raise ValueError(
                f"batch_size must be at most {self.sequences.count:,}, the sequences of {config.length:,} symbols in"
                f" the training part of {corpus.name}, got {config.batch_size:,}"
            )
        self.model = config.build_model(corpus.vocabulary)
        self.plan = Plan(
            updates=config.epochs * updates,
            patience=config.patience,
            evaluate_every=config.evaluate_every,
            population_every=config.population_every,
            clip=config.clip,
            selection=config.selection,
            selection_statistics=config.selection_statistics,
            headline="bpc",
        )
        self._updates = updates

    def optimizer(self) -> Optimizer:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return Adam(parameters, lr=self.config.learning_rate)

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        config = self.config
        return config.learning_rate * config.rate(epoch, position, self._updates, config.epochs)

    def epoch_length(self, epoch: int) -> int:
        return self._updates

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 (steps, rows)."""
        if self.config.carry_state:
            return self.streams.batch(position)
        return self.sequences.batch(epoch, position)

    def start(self, epoch: int) -> Carry:
        return {}

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor], carry: Carry) -> Step:
        tokens, targets = batch
        predicted, state = model(tokens, targets, state_of(carry) or None)
        loss = predicted.cross_entropy
        metrics = {"loss": loss, "bpc": loss / math.log(2), "accuracy": predicted.correct / targets.numel()}
        carry, count = carry_of(state) if self.config.carry_state else {}, targets.numel()
        return Step(predicted.loss, processes.means(metrics, count), carry, count)

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics, rows: int | None = None) -> Metrics:
        """Loss, bits per character (bpc) and error, on pieces of the training length, each from the initial state.

        The pieces come in an order drawn once for the run: neighbours in the text would make batches that are more
        alike within than the training's, and so other statistics. Of the test part also the bpc on pieces of each
        length in ``test_lengths``, ``bpc_{length}``, and, where no batch statistics are needed, on the whole part as
        one sequence, ``bpc_sequence``. ``rows``: pieces of a batch where the config's are not meant.
        """
        text, length, size = self._part(split), self.config.length, rows or self.config.evaluation_batch_size
        score = score_pieces(model, text, length, size, self.seed)
        metrics = {"loss": score.loss, "bpc": score.bits, "error": score.error, "accuracy": 1 - score.error}
        if split == "test":
            for piece in self.test_lengths:
                if len(text) >= 2 * piece:
                    metrics[f"bpc_{piece}"] = score_pieces(model, text, piece, size, self.seed).bits
            if self.config.whole_test and (statistics == "population" or not has_batch_statistics(model)):
                metrics["bpc_sequence"] = score_sequence(model, text).bits
        return metrics

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        if not has_batch_statistics(self.model):
            return None
        if statistics == "population":
            return min(self.config.population_batch_size, self.most_rows("train"))
        return min(self.config.evaluation_batch_size, self.most_rows(split))

    def most_rows(self, split: Split) -> int:
        """The largest batch that a part can be evaluated in: its pieces."""
        return len(self._part(split)) // self.config.length

    def population_batches(self) -> Iterator[dict[str, Any]]:
        """The training part in sequences of the training length, in an order drawn once for the run."""
        order = generator(self.seed, Purpose.POPULATION)
        for tokens, _ in pieces(self.corpus.train, self.config.length, self.config.population_batch_size, order):
            yield {"tokens": tokens.long(), "readout": "none"}

    def _part(self, split: Split) -> Tensor:
        text = {"train": self.corpus.train, "valid": self.corpus.valid, "test": self.corpus.test}[split]
        limit = self.config.valid_pieces * self.config.length if split == "valid" else 0
        return text[: limit or None]


def score_pieces(model: nn.Module, text: Tensor, length: int, batch_size: int, seed: int) -> Score:
    """Scores the pieces of a text, each from the initial state; needs memory for a chunk of steps only.

    Args:
        model: in evaluation, with the statistics that are wanted.
        text: indices, shape (N,).
        length: symbols of a piece.
        batch_size: pieces read together: the rows of batch statistics.
        seed: of the order in which the pieces come together.
    """
    score = Score()
    for tokens, targets in pieces(text, length, batch_size, generator(seed, Purpose.EVALUATION)):
        _score(score, model, tokens, targets)
    return score


def score_sequence(model: nn.Module, text: Tensor) -> Score:
    """Scores a text as one sequence, in memory that does not grow with it."""
    score = Score()
    _score(score, model, *shifted(text.unsqueeze(1)))
    return score


def _score(score: Score, model: nn.Module, tokens: Tensor, targets: Tensor) -> None:
    device = next(model.parameters()).device
    weight = processes.share(tokens.shape[1]).weight
    tokens, targets = processes.cut((tokens, targets))
    state: State | None = None
    for start in range(0, len(tokens), CHUNK):
        x = tokens[start : start + CHUNK].long().to(device)
        y = targets[start : start + CHUNK].long().to(device)
        predicted, state = model(x, y, state, start_step=start)
        score.add(predicted, y.numel(), weight)
