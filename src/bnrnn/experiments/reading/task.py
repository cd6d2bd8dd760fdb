"""Training and evaluation of a reader on cloze questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnrnn.data.cloze import UNKNOWN, Cloze, Part
from bnrnn.experiments.reading.batches import Batch, Question, Renaming, collate, cut
from bnrnn.experiments.reading.config import ReadingConfig
from bnrnn.experiments.reading.model import AttentiveReader, negative_log_likelihood
from bnrnn.training import Adam, Carry, Metrics, Plan, Purpose, Split, Statistics, Step, generator, processes, seed_of


class Judged(NamedTuple):
    """What a reader said to the questions of a batch.

    Args:
        indices: the questions' places in their part.
        questions: what it saw.
        probabilities: of every word of the vocabulary, ``(B, V)``.
        attention: ``(T, B)``.
        weight: of these questions in sums over all processes, each of which has its share of a batch.
    """

    indices: list[int]
    questions: list[Question]
    probabilities: Tensor
    attention: Tensor
    weight: float = 1.0


class ReadingTask:
    """Cloze questions for an :class:`~bnrnn.experiments.reading.model.AttentiveReader`; see
    :class:`bnrnn.training.Task`.

    An epoch is as many updates as the training part fills with batches. With replacement each question is drawn by
    itself, so an epoch has some questions twice and others not at all.

    Args:
        config: options.
        data: the questions.

    Raises:
        ValueError: the training part has fewer questions than a batch.
    """

    batch_first = False

    def __init__(self, config: ReadingConfig, data: Cloze) -> None:
        self.config, self.data, self.seed = config, data, config.seed
        self.batch_size: int = config.own("batch_size")
        self.parts: dict[Split, Part] = {"train": data.train, "valid": data.valid, "test": data.test}
        if self.batch_size > len(data.train):
            raise ValueError(
                f"batch_size must be at most {len(data.train):,}, the training questions, got {self.batch_size:,}"
            )
        words = data.words
        self.renaming = Renaming(words.entities, len(words.vocabulary))
        self.model = AttentiveReader(config.architecture, words, seed_of(config.seed, Purpose.INITIALIZATION))
        self.plan = Plan(
            updates=config.own("updates"),
            evaluate_every=config.evaluate_every,
            population_every=config.population_every,
            clip=config.clip,
            clip_rule=config.clip_rule,
            selection=config.selection,
            selection_statistics=config.selection_statistics,
            headline="error",
        )
        self._bucket: tuple[tuple[int, int], list[list[Question]]] = ((-1, -1), [])

    @property
    def sources(self) -> dict[str, str]:
        return self.data.sources

    def optimizer(self) -> Adam:
        return Adam(self.model.parameters(), lr=self.config.own("learning_rate"))

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        return self.config.own("learning_rate")

    def epoch_length(self, epoch: int) -> int:
        return len(self.data.train) // self.batch_size

    def batch(self, epoch: int, position: int) -> Batch:
        bucket, place = divmod(position, self.config.bucket)
        if self._bucket[0] != (epoch, bucket):
            self._bucket = ((epoch, bucket), self._drawn(epoch, bucket))
        questions = self._bucket[1][place]
        random = generator(self.seed, Purpose.ORDER, epoch, position, 1)
        return collate(self._renamed(questions, random), self.config.own("padding"))

    def start(self, epoch: int) -> Carry:
        return {}

    def loss(self, model: nn.Module, batch: Batch, carry: Carry) -> Step:
        logits, _ = model(*batch[:4])
        loss = negative_log_likelihood(logits, batch.answers)
        error = (logits.detach().argmax(1) != batch.answers).float().mean()
        count = len(batch.answers)
        metrics = processes.means({"loss": loss.detach(), "error": error, "accuracy": 1 - error}, count)
        return Step(loss, metrics, count=count)

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics) -> Metrics:
        """Loss, and the share of questions whose most probable word is wrong: of the whole vocabulary (``error``), and
        of the candidates (``candidate_error``). An answer that the vocabulary does not have is never right.
        """
        limit = self.config.valid_questions if split == "valid" else 0
        loss = wrong = wrong_candidate = count = 0.0
        for _, questions, probabilities, _, weight in self.answers(model, split, limit):
            answers = torch.tensor([question.answer for question in questions])
            at_answer = probabilities.gather(1, answers.unsqueeze(1))
            loss -= weight * float((at_answer.double() + 1e-8).log().sum())
            known = answers != UNKNOWN
            wrong += weight * float((~(known & (probabilities.argmax(1) == answers))).sum())
            for question, found in zip(questions, probabilities, strict=True):
                candidates = torch.from_numpy(question.candidates.astype(np.int64))
                chosen = int(candidates[found[candidates].argmax()])
                wrong_candidate += weight * (chosen != question.answer or chosen == UNKNOWN)
            count += weight * len(questions)
        loss, wrong, wrong_candidate, count = processes.totals(loss, wrong, wrong_candidate, count)
        return {
            "loss": loss / count,
            "error": wrong / count,
            "accuracy": 1 - wrong / count,
            "candidate_error": wrong_candidate / count,
        }

    def answers(self, model: nn.Module, split: Split, limit: int = 0) -> Iterator[Judged]:
        """What the model, which is in evaluation, says to the questions of a part, in an order drawn once.

        Neighbours in the data may be on one text, and batch statistics of such batches are not those of training.

        Args:
            model: the reader.
            split: the part.
            limit: so many questions; 0 for all.
        """
        part = self.parts[split]
        device = next(model.parameters()).device
        for indices in _pieces(part, limit, self.config.own("evaluation_batch_size")):
            questions = [self._question(part, index) for index in indices]
            own = processes.share(len(questions))
            batch = processes.cut(collate(questions, self.config.own("padding")))
            logits, attention = model(*(tensor.to(device) for tensor in batch[:4]))
            probabilities = logits.float().softmax(1).cpu()
            yield Judged(indices[own.rows], questions[own.rows], probabilities, attention.float().cpu(), own.weight)

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        if self.config.variant == "lstm":
            return None
        return self.config.own("evaluation_batch_size" if statistics == "batch" else "population_batch_size")

    def population_batches(self) -> Iterator[dict[str, Any]]:
        """The training part in an order drawn once, the names exchanged as in training."""
        size = self.config.own("population_batch_size")
        for number, indices in enumerate(_pieces(self.data.train, self.config.population_batches * size, size)):
            questions = [self._question(self.data.train, index) for index in indices]
            random = generator(self.seed, Purpose.POPULATION, number)
            batch = collate(self._renamed(questions, random), self.config.own("padding"))
            yield {**dict(zip(batch._fields[:4], batch[:4], strict=True)), "logits": False}

    def _question(self, part: Part, index: int) -> Question:
        return cut(part[index], self.config.sentences, self.config.longest)

    def _drawn(self, epoch: int, bucket: int) -> list[list[Question]]:
        """The questions of some batches: of one, or of as many as are sorted by length together."""
        first = bucket * self.config.bucket
        count = min(self.config.bucket, self.epoch_length(epoch) - first) * self.batch_size
        if self.config.sampling == "replacement":
            random = generator(self.seed, Purpose.ORDER, epoch, bucket, 0)
            indices = torch.randint(len(self.data.train), (count,), generator=random).tolist()
        else:
            indices = range(first * self.batch_size, first * self.batch_size + count)
        questions = [self._question(self.data.train, index) for index in indices]
        if self.config.bucket > 1:
            questions.sort(key=lambda question: -len(question.passage))
        return [questions[start : start + self.batch_size] for start in range(0, count, self.batch_size)]

    def _renamed(self, questions: list[Question], random: torch.Generator) -> list[Question]:
        if self.config.shuffle == "none":
            return questions
        if self.config.shuffle == "batch":
            drawn = self.renaming.draw(random)
            return [self.renaming(question, drawn) for question in questions]
        return [self.renaming(question, self.renaming.draw(random)) for question in questions]


def _pieces(part: Part, limit: int, size: int) -> list[list[int]]:
    """So many questions of a part, or all, in batches of an order that is always the same. A last one alone, which has
    no batch statistics, joins those before.
    """
    order = torch.randperm(len(part), generator=generator(0, Purpose.EVALUATION)).tolist()
    chosen = order[: limit or None]
    pieces = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [pieces[-2] + pieces[-1]]
    return pieces
