"""Questions to a trained reader: text in, an answer, the candidates' probabilities and the attention out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bnrnn.data import babi
from bnrnn.data.cloze import ENTITY, PLACEHOLDER, UNKNOWN, Text, sentence_ends
from bnrnn.experiments.opened import open_run
from bnrnn.experiments.reading.batches import collate, cut
from bnrnn.experiments.reading.config import ReadingConfig
from bnrnn.experiments.reading.model import AttentiveReader
from bnrnn.experiments.reading.names import Names, capitalised, has_markers, tokens
from bnrnn.training import RunError


@dataclass(frozen=True)
class Reading:
    """A reader's answer.

    Args:
        question: its words, names as names.
        passage: the words that were read, names as names; those the reader does not know too.
        attention: the weight of each, in sum 1.
        known: whether the reader knows each of them.
        candidates: the possible answers with their probabilities among all words, the most probable first.
        word: the most probable of all words, and its probability.
    """

    question: list[str]
    passage: list[str]
    attention: list[float]
    known: list[bool]
    candidates: list[tuple[str, float]]
    word: tuple[str, float]

    @property
    def answer(self) -> str:
        """The most probable candidate."""
        return self.candidates[0][0]


class Reader:
    """A run's reader, with its population statistics: those of the final evaluation where the run has come to it, else
    the running averages of training. The data that it was trained on are not needed.

    Args:
        path: run folder of a reading experiment.
        device: where to compute.

    Raises:
        RunError: the folder has no trained reader.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        run = open_run(path, "final", device)
        if not isinstance(run.config, ReadingConfig):
            raise RunError(f"{path} is a run of {run.experiment.name}, which reads no passages")
        self.config, self.fabric = run.config, run.fabric
        self.model: AttentiveReader = run.model
        self.words = self.model.words

    def read(self, passage: str, question: str, entities: Sequence[str] = (), tokenized: bool | None = None) -> Reading:
        """Answers a question on a passage.

        Args:
            passage: running text; or words with markers for names, spaces between them.
            question: with ``@placeholder`` where the answer belongs; one for a bAbI reader may do without.
            entities: names in the text, or ``name=@marker``; without any they are guessed from capital letters. A text
                with markers needs none.
            tokenized: whether words are what stands between spaces. None: if the passage has markers.

        Raises:
            ValueError: an empty passage, no placeholder or several, no candidate in the passage.
        """
        text, names = self._text(passage, question, entities, tokenized)
        item = self.words.item(text)
        seen = cut(item, self.config.sentences, self.config.longest)
        batch = collate([seen], "zeros")
        device = self.fabric.device
        with torch.inference_mode(), self.fabric.autocast():
            logits, attention = self.model(*(tensor.to(device) for tensor in batch[:4]))
        probabilities = logits[0].float().softmax(0).cpu()
        candidates = {
            names.show(word): float(probabilities[index])
            for word, index in zip(text.candidates, item.candidates.tolist(), strict=True)
            if index != UNKNOWN
        }
        best = int(probabilities.argmax())
        symbols = self.words.vocabulary.symbols
        return Reading(
            question=[names.show(word) for word in text.question],
            passage=[names.show(word) for word in self._seen(text)],
            attention=attention[:, 0].float().cpu().tolist(),
            known=[index != UNKNOWN for index in seen.passage.tolist()],
            candidates=sorted(candidates.items(), key=lambda pair: -pair[1]),
            word=(names.show(symbols[best]), float(probabilities[best])),
        )

    def _text(self, passage: str, question: str, entities: Sequence[str], tokenized: bool | None) -> tuple[Text, Names]:
        if not passage.strip():
            raise ValueError("passage must have words, got an empty one")
        if self.words.answers:
            statements = [statement for line in passage.splitlines() for statement in _statements(line)]
            asked = question.lower().split() if PLACEHOLDER in question else babi.cloze(question)
            text = babi.text(statements, question, list(self.words.answers), self.words.answers[0])
            return text._replace(question=_checked(asked)), Names((), (), ())
        split = has_markers(passage.lower().split()) if tokenized is None else tokenized
        divide = str.split if split else tokens
        lines = [divide(line) for line in passage.splitlines() if line.strip()]
        asked = divide(question)
        everything = [word for words in (*lines, asked) for word in words]
        lower = [word.lower() for word in everything]
        if not entities and not has_markers(lower):
            entities = capitalised(everything)
        known = [self.words.vocabulary.symbols[index] for index in self.words.entities]
        names = Names(known, entities, lower)
        hidden = [names.hide(words) for words in lines]
        words = [word for line in hidden for word in line]
        ends = sentence_ends(words)
        if self.config.BY_LINE:
            ends = [sum(map(len, hidden[: count + 1])) for count in range(len(hidden))]
        candidates = sorted({word for word in words if ENTITY.fullmatch(word)})
        if not candidates:
            raise ValueError("the passage names no candidate: give --entities, or markers as @entity1 in the text")
        return Text(words, ends, _checked(names.hide(asked)), candidates, candidates[0]), names

    def _seen(self, text: Text) -> list[str]:
        """The words of the passage that the reader is shown."""
        item, words = self.words.item(text), list(text.passage)
        places = cut(item._replace(passage=np.arange(len(words))), self.config.sentences, self.config.longest).passage
        return [words[place] for place in places.tolist()]


def _statements(line: str) -> list[str]:
    """The sentences of a line, each with its full stop."""
    parts = [part.strip() for part in line.replace("!", ".").split(".")]
    return [f"{part} ." for part in parts if part]


def _checked(question: list[str]) -> list[str]:
    if question.count(PLACEHOLDER) != 1:
        raise ValueError(
            f"question must have {PLACEHOLDER} once, where the answer belongs; it has {question.count(PLACEHOLDER)}"
        )
    return question
