"""The Penn Treebank as Mikolov et al. (2012) prepared it: 42,068 / 3,370 / 3,761 lines, words and characters.

Each line of the files starts with a space and ends with a space and a line break; one space parts two words.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.data.registry import digests, fetch

END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"

CharacterConvention = Literal["paper", "stripped", "no-newline"]
_CONVENTIONS: tuple[CharacterConvention, ...] = ("paper", "stripped", "no-newline")


def words() -> Corpus:
    """The word-level corpus: 929,589 / 73,760 / 82,430 tokens, ``<eos>`` for each line break; 10,000 words.

    The vocabulary comes from the training part, the most frequent word first, equals in alphabetical order.

    Raises:
        DataError: a file is missing or damaged.
    """
    train, valid, test = (_read(part).replace("\n", f" {END_OF_LINE} ").split() for part in _PARTS)
    counts = Counter(train)
    vocabulary = Vocabulary(tuple(sorted(counts, key=lambda word: (-counts[word], word))), unknown=UNKNOWN)
    train, valid, test = map(vocabulary.encode, (train, valid, test))
    return Corpus("PTB words", "word", train, valid, test, vocabulary, sources=digests("ptb"))


def characters(convention: CharacterConvention = "paper") -> Corpus:
    """The character-level corpus.

    Args:
        convention: ``"paper"`` drops the space that starts each line and keeps the line break as a symbol:
            5,059,550 / 396,412 / 446,184 characters, 50 symbols (Cooijmans et al. 2017, released code).
            ``"stripped"`` drops the spaces at both ends of a line and keeps the line break:
            5,017,482 / 393,042 / 442,423 characters, 50 symbols, the count of most other papers.
            ``"no-newline"`` drops the first space and the line break: the same lengths, 49 symbols.

    Raises:
        ValueError: unknown convention.
        DataError: a file is missing or damaged.
    """
    if convention not in _CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(_CONVENTIONS)}, got {convention!r}")
    train, valid, test = (_lines(_read(part), convention) for part in _PARTS)
    vocabulary = Vocabulary(tuple(sorted(set(train))))
    name = "PTB characters" if convention == "paper" else f"PTB characters ({convention})"
    train, valid, test = (_encode(text, vocabulary) for text in (train, valid, test))
    return Corpus(name, "character", train, valid, test, vocabulary, sources=digests("ptb"))


_PARTS = ("train", "valid", "test")


def _read(part: str) -> str:
    return fetch(f"ptb/ptb.{part}.txt").read_text("ascii")


def _lines(text: str, convention: CharacterConvention) -> str:
    lines = text.split("\n")[:-1]
    if convention == "stripped":
        return "".join(line.strip(" ") + "\n" for line in lines)
    end = "\n" if convention == "paper" else ""
    return "".join(line[1:] + end for line in lines)


def _encode(text: str, vocabulary: Vocabulary) -> Tensor:
    """As ``vocabulary.encode`` for ASCII text, by one look-up table."""
    table = np.zeros(128, np.uint8)
    table[[ord(symbol) for symbol in vocabulary.symbols]] = np.arange(len(vocabulary), dtype=np.uint8)
    return torch.from_numpy(table[np.frombuffer(text.encode("ascii"), np.uint8)])
