"""Cloze questions over passages: what every source of them has in common.

A source gives texts: a *passage*, a *question* with one ``@placeholder``, the *candidates* and the *answer* that
belongs in its place. Words are lower-cased; numbers become one word, words that the training part has once become
another (Cooijmans et al. 2017, released code).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnrnn.data.corpus import Vocabulary

PLACEHOLDER = "@placeholder"
NIL, EOS, UNKNOWN, NUMBER = range(4)
RESERVED = ("<nil>", "<eos>", "<unk>", "<num>")
"""The symbols of the indices 0 to 3. Nothing is ever indexed as the second: the released code appends it to every
text and takes it off again."""
MIN_COUNT = 2
"""A word that the training part has less often counts as unknown."""
ENTITY = re.compile(r"@ent(?:ity)?(\d+)")
"""A marker that stands for a name."""
PARTS = ("train", "valid", "test")

_FLUSH = 1 << 18  # numbers of a column held in memory where it goes to a file
_BLOCK = 1 << 22  # numbers encoded at once


class Text(NamedTuple):
    """A question with its passage, in words.

    Args:
        passage: lower-case words.
        ends: where each sentence of the passage ends: the index after its last word. The last one is the length.
        question: lower-case words, :data:`PLACEHOLDER` among them once.
        candidates: words that may be the answer.
        answer: the word in the placeholder's place.
    """

    passage: Sequence[str]
    ends: Sequence[int]
    question: Sequence[str]
    candidates: Sequence[str]
    answer: str


class Item(NamedTuple):
    """A question with its passage, in indices of the vocabulary, int32; fields as in :class:`Text`."""

    passage: np.ndarray
    ends: np.ndarray
    relevance: np.ndarray
    """Of each sentence: how many different words of the question it has."""
    question: np.ndarray
    candidates: np.ndarray
    answer: int


class Ragged(NamedTuple):
    """Rows of different lengths in one array."""

    values: np.ndarray
    offsets: np.ndarray
    """Where each row begins, and the end: one more than there are rows."""

    def row(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Part:
    """The questions of one part; arrays in memory or memory-mapped.

    Args:
        passages, questions, candidates: indices of the vocabulary.
        ends, relevance: of the sentences, as in :class:`Item`.
        answers: shape (count,).
        order: the row of each question, shape (count,).
    """

    passages: Ragged
    ends: Ragged
    relevance: Ragged
    questions: Ragged
    candidates: Ragged
    answers: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Item:
        row = int(self.order[index])
        return Item(
            self.passages.row(row),
            self.ends.row(row),
            self.relevance.row(row),
            self.questions.row(row),
            self.candidates.row(row),
            int(self.answers[row]),
        )


@dataclass(frozen=True)
class Words:
    """What a reader knows: the vocabulary, the markers in it that stand for names, and the answers it may choose from
    where a text has no such markers.
    """

    vocabulary: Vocabulary
    answers: tuple[str, ...] = ()

    @cached_property
    def entities(self) -> list[int]:
        """Indices of the markers, by their numbers."""
        found = [
            (int(match[1]), index)
            for index, symbol in enumerate(self.vocabulary.symbols)
            if (match := ENTITY.fullmatch(symbol))
        ]
        return [index for _, index in sorted(found)]

    def encode(self, words: Iterable[str]) -> np.ndarray:
        """Indices of lower-case words, int32."""
        index = self.vocabulary.index
        return np.array([NUMBER if word.isdigit() else index.get(word, UNKNOWN) for word in words], dtype=np.int32)

    def item(self, text: Text) -> Item:
        """A text in indices."""
        return Item(
            self.encode(text.passage),
            np.array(text.ends, dtype=np.int32),
            np.array(relevance(text.passage, text.ends, text.question), dtype=np.int32),
            self.encode(text.question),
            self.encode(text.candidates),
            int(self.encode([text.answer])[0]),
        )


@dataclass(frozen=True)
class Cloze:
    """A data set of cloze questions.

    Args:
        name: what results on it are called.
        words: the vocabulary, of the training part.
        train, valid, test: the questions.
        sources: file names and SHA-256 of what was read.
    """

    name: str
    words: Words
    train: Part
    valid: Part
    test: Part
    sources: dict[str, str] = field(default_factory=dict)


def sentence_ends(words: Sequence[str]) -> list[int]:
    """Where the sentences of a passage end: after ``.``, ``!`` or ``?``, and after a closing quotation mark behind it.

    A passage without any of these is one sentence.
    """
    ends: list[int] = []
    quoted = False
    for index, word in enumerate(words):
        if word == '"':
            if quoted and ends and ends[-1] == index:
                ends[-1] = index + 1
            quoted = not quoted
        elif word in _STOPS:
            ends.append(index + 1)
    if not ends or ends[-1] != len(words):
        ends.append(len(words))
    return ends


_STOPS = frozenset(".!?")


def relevance(passage: Sequence[str], ends: Sequence[int], question: Sequence[str]) -> list[int]:
    """How well each sentence matches the question: the number of different words of the question in it.

    The placeholder and words without a letter or a digit do not count.
    """
    wanted = {word for word in question if word != PLACEHOLDER and any(map(str.isalnum, word))}
    start, found = 0, []
    for end in ends:
        found.append(len(wanted.intersection(passage[start:end])))
        start = end
    return found


def select(item: Item, sentences: int) -> np.ndarray:
    """The words of the sentences that match the question best, in reading order.

    Args:
        item: the question.
        sentences: how many; 0 for the whole passage. Of equals the earlier ones are taken.
    """
    if not sentences or len(item.ends) <= sentences:
        return item.passage
    ends = item.ends.tolist()
    return np.concatenate([item.passage[slice(*span)] for span in _best(ends, item.relevance.tolist(), sentences)])


def best_words(text: Text, relevance: Sequence[int], sentences: int) -> list[str]:
    """As :func:`select`, in words."""
    return [word for start, end in _best(text.ends, relevance, sentences) for word in text.passage[start:end]]


def _best(ends: Sequence[int], relevance: Sequence[int], sentences: int) -> list[tuple[int, int]]:
    """Beginning and end of the best sentences, in reading order."""
    best = sorted(range(len(ends)), key=lambda sentence: (-relevance[sentence], sentence))[:sentences]
    return [(ends[sentence - 1] if sentence else 0, ends[sentence]) for sentence in sorted(best)]


class Builder:
    """Takes texts one by one and makes a :class:`Cloze` of them, in memory or in files.

    Words get their final indices at the end, when the training part's counts are known; so the parts may come in any
    order, and every text is looked at once.

    Args:
        folder: an empty folder to write the columns to; None to keep them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._found = _Growing()
        self._counts = np.zeros(0, np.int64)
        self._parts = {part: _Rows(folder, part) for part in PARTS}

    def add(self, part: str, text: Text, key: str = "") -> list[int]:
        """Takes a text, and returns the relevance of its sentences.

        Args:
            part: ``"train"``, ``"valid"`` or ``"test"``.
            text: the question.
            key: the part is sorted by these, and by arrival among equals.
        """
        look = self._found.__getitem__
        passage = list(map(look, text.passage))
        question = list(map(look, text.question))
        answer = look(text.answer)
        if part == "train":
            self._count(passage, question, [answer])
        found = relevance(text.passage, text.ends, text.question)
        self._parts[part].add(key, passage, text.ends, found, question, list(map(look, text.candidates)), answer)
        return found

    def count(self, part: str) -> int:
        """Texts of a part so far."""
        return len(self._parts[part].keys)

    def finish(self, name: str, answers: Sequence[str] = (), sources: dict[str, str] | None = None) -> Cloze:
        """The data set; the builder is used up."""
        counts = self._counts
        kept = [
            (-int(counts[index]), word)
            for word, index in self._found.items()
            if index < len(counts) and counts[index] >= MIN_COUNT and not word.isdigit() and word not in RESERVED
        ]
        symbols = RESERVED + tuple(word for _, word in sorted(kept))
        vocabulary = Vocabulary(symbols, unknown=RESERVED[UNKNOWN])
        index = vocabulary.index
        table = np.array(
            [NUMBER if word.isdigit() else index.get(word, UNKNOWN) for word in self._found], dtype=np.int32
        )
        parts = {part: rows.finish(table) for part, rows in self._parts.items()}
        return Cloze(name, Words(vocabulary, tuple(answers)), **parts, sources=sources or {})

    def _count(self, *texts: list[int]) -> None:
        missing = len(self._found) - len(self._counts)
        if missing > 0:
            self._counts = np.concatenate((self._counts, np.zeros(max(missing, len(self._counts) // 2), np.int64)))
        for text in texts:
            np.add.at(self._counts, text, 1)


class _Growing(dict[str, int]):
    """A number for every word, in the order of their first appearance."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class _Column:
    """A growing array of int32, in memory or in a file."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.length, self.buffer = path, 0, array("i")

    def extend(self, values: Iterable[int]) -> None:
        before = len(self.buffer)
        self.buffer.extend(values)
        self.length += len(self.buffer) - before
        if self.path is not None and len(self.buffer) > _FLUSH:
            self._flush(self.path)

    def finish(self, table: np.ndarray | None) -> np.ndarray:
        """The whole array, each number replaced by what the table has for it."""
        if self.path is None:
            values = np.frombuffer(self.buffer, np.int32) if self.buffer else np.zeros(0, np.int32)
            return values if table is None else table[values]
        self._flush(self.path)
        if table is not None:
            with self.path.open("r+b") as stream:  # not as a map, whose pages would all count as memory
                for start in range(0, 4 * self.length, 4 * _BLOCK):
                    stream.seek(start)
                    block = table[np.frombuffer(stream.read(4 * _BLOCK), np.int32)]
                    stream.seek(start)
                    stream.write(block.tobytes())
        return mapped(self.path, self.length, np.int32)

    def _flush(self, path: Path) -> None:
        with path.open("ab") as stream:
            self.buffer.tofile(stream)
        self.buffer = array("i")


class _Rows:
    """The columns of one part as they grow."""

    ragged = ("passages", "ends", "relevance", "questions", "candidates")
    encoded = ("passages", "questions", "candidates", "answers")

    def __init__(self, folder: Path | None, part: str) -> None:
        self.folder, self.part = folder, part
        names = (*self.ragged, "answers")
        self.columns = {name: _Column(None if folder is None else folder / f"{part}.{name}.i32") for name in names}
        self.offsets = {name: array("q", [0]) for name in self.ragged}
        self.keys: list[str] = []

    def add(
        self,
        key: str,
        passage: Sequence[int],
        ends: Sequence[int],
        relevance: Sequence[int],
        question: Sequence[int],
        candidates: Sequence[int],
        answer: int,
    ) -> None:
        self.keys.append(key)
        for name, values in zip(self.ragged, (passage, ends, relevance, question, candidates), strict=True):
            self.columns[name].extend(values)
            self.offsets[name].append(self.columns[name].length)
        self.columns["answers"].extend((answer,))

    def finish(self, table: np.ndarray) -> Part:
        order = np.array(sorted(range(len(self.keys)), key=self.keys.__getitem__), dtype=np.int64)
        columns = {
            name: column.finish(table if name in self.encoded else None) for name, column in self.columns.items()
        }
        offsets = {name: np.frombuffer(values, np.int64) for name, values in self.offsets.items()}
        if self.folder is not None:
            for name, values in (*offsets.items(), ("order", order)):
                (self.folder / f"{self.part}.{name}.i64").write_bytes(values.tobytes())
        return Part(
            **{name: Ragged(columns[name], offsets[name]) for name in self.ragged},
            answers=columns["answers"],
            order=order,
        )


def lengths(part: Part) -> dict[str, int]:
    """How many numbers each column of a part has, to be kept with the files of a :class:`Builder`."""
    found = {name: len(getattr(part, name).values) for name in _Rows.ragged}
    return {**found, "answers": len(part.answers), "order": len(part.order)}


def open_part(folder: Path, part: str, known: dict[str, int]) -> Part:
    """A part from the files of a :class:`Builder`, memory-mapped.

    Args:
        folder: where they are.
        part: its name.
        known: what :func:`lengths` said.

    Raises:
        ValueError: a file is missing or of another length.
    """
    count = known["order"]
    columns = {name: mapped(folder / f"{part}.{name}.i32", known[name], np.int32) for name in _Rows.ragged}
    offsets = {name: mapped(folder / f"{part}.{name}.i64", count + 1, np.int64) for name in _Rows.ragged}
    return Part(
        **{name: Ragged(columns[name], offsets[name]) for name in _Rows.ragged},
        answers=mapped(folder / f"{part}.answers.i32", known["answers"], np.int32),
        order=mapped(folder / f"{part}.order.i64", count, np.int64),
    )


def mapped(path: Path, length: int, dtype: type[np.generic]) -> np.ndarray:
    """A file of numbers as an array of which only what is read is in memory.

    Raises:
        ValueError: the file is missing or of another length.
    """
    size = path.stat().st_size if path.is_file() else -1
    if size != length * np.dtype(dtype).itemsize:
        raise ValueError(f"{path} is not whole")
    if not length:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r")
