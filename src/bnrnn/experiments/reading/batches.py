"""From questions to padded batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnrnn.data.cloze import NIL, Item, select

Padding = Literal["repeat", "zeros"]


class Question(NamedTuple):
    """A question as a reader gets it, int arrays: fields as in :class:`bnrnn.data.cloze.Item`."""

    passage: np.ndarray
    question: np.ndarray
    candidates: np.ndarray
    answer: int


class Batch(NamedTuple):
    """Questions side by side.

    Args:
        passage, question: words, int64 ``(T, B)`` and ``(S, B)``.
        passage_lengths, question_lengths: int64 ``(B,)``.
        answers: int64 ``(B,)``.
    """

    passage: Tensor
    passage_lengths: Tensor
    question: Tensor
    question_lengths: Tensor
    answers: Tensor


def cut(item: Item, sentences: int = 0, longest: int = 0) -> Question:
    """A question with what a reader sees of its passage.

    Args:
        item: the question.
        sentences: only the sentences that match it best, so many; 0 for all.
        longest: the first so many words of these; 0 for all.
    """
    passage = select(item, sentences)
    return Question(passage[: longest or None], item.question, item.candidates, item.answer)


class Renaming:
    """Exchanges the markers of a text for one another, at random.

    Args:
        entities: indices of the markers.
        size: of the vocabulary.
    """

    def __init__(self, entities: Sequence[int], size: int) -> None:
        self.entities = np.array(entities, dtype=np.int64)
        self.place = np.full(size, -1, np.int64)
        self.place[self.entities] = np.arange(len(entities))

    def draw(self, random: torch.Generator) -> np.ndarray:
        """The marker that takes each one's place."""
        return self.entities[torch.randperm(len(self.entities), generator=random).numpy()]

    def __call__(self, question: Question, drawn: np.ndarray) -> Question:
        def renamed(words: np.ndarray) -> np.ndarray:
            place = self.place[words]
            return np.where(place < 0, words, drawn[place]) if len(drawn) else words

        passage, asked, candidates = map(renamed, question[:3])
        return Question(passage, asked, candidates, int(renamed(np.array([question.answer]))[0]))


def collate(questions: Iterable[Question], padding: Padding) -> Batch:
    """A batch of questions.

    Args:
        questions: at least one.
        padding: ``"repeat"``: what follows a text is a 0 and the text again, and so on (released code); ``"zeros"``.
    """
    passages, asked, _, answers = zip(*questions, strict=True)
    return Batch(*_padded(passages, padding), *_padded(asked, padding), torch.tensor(answers, dtype=torch.int64))


def _padded(texts: Sequence[np.ndarray], padding: Padding) -> tuple[Tensor, Tensor]:
    longest = max(map(len, texts))
    padded = np.full((longest, len(texts)), NIL, np.int64)
    for column, text in enumerate(texts):
        if padding == "repeat":
            padded[:, column] = np.resize(np.append(text, NIL), longest)
        else:
            padded[: len(text), column] = text
    return torch.from_numpy(padded), torch.tensor([len(text) for text in texts], dtype=torch.int64)
