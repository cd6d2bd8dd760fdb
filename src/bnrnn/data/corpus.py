"""What the text data sets have in common: a vocabulary, and three parts of one long stream of symbols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a language model, in the order of their indices.

    Args:
        symbols: distinct characters or words.
        unknown: the symbol that stands for all others; None where nothing else may occur.
    """

    symbols: tuple[str, ...]
    unknown: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError("symbols must be distinct")
        if self.unknown is not None and self.unknown not in self.symbols:
            raise ValueError(f"unknown must be one of the symbols, got {self.unknown!r}")

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def index(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    @property
    def dtype(self) -> torch.dtype:
        """The smallest type that holds every index."""
        return torch.uint8 if len(self) <= 256 else torch.int32

    @property
    def fingerprint(self) -> str:
        """A digest of symbols and order: models fit together with a corpus of the same fingerprint only."""
        return hashlib.sha256(json.dumps([self.symbols, self.unknown]).encode()).hexdigest()[:16]

    def encode(self, symbols: Iterable[str]) -> Tensor:
        """Indices of a sequence of symbols, shape (count,).

        Raises:
            ValueError: a symbol is not in the vocabulary, and none stands for unknown ones.
        """
        symbols = list(symbols)
        if self.unknown is None:
            strange = sorted({symbol for symbol in symbols if symbol not in self.index})
            if strange:
                raise ValueError(
                    f"{len(strange)} symbols are not in the vocabulary of {len(self)}: "
                    + ", ".join(map(repr, strange[:10]))
                )
            return torch.tensor([self.index[symbol] for symbol in symbols], dtype=self.dtype)
        stand_in = self.index[self.unknown]
        return torch.tensor([self.index.get(symbol, stand_in) for symbol in symbols], dtype=self.dtype)

    def decode(self, indices: Sequence[int] | Tensor) -> list[str]:
        """The symbols of a sequence of indices."""
        values = indices.tolist() if isinstance(indices, Tensor) else indices
        return [self.symbols[index] for index in values]


@dataclass(frozen=True)
class Corpus:
    """A text as three streams of indices, in reading order.

    Args:
        name: what results on it are called; a part of a data set says so here.
        level: whether the symbols are characters or words.
        train, valid, test: indices, shape (length,), of ``vocabulary.dtype``.
        vocabulary: the symbols.
        unknown: how many symbols of each part stand for one that the vocabulary does not have.
        sources: names of what it was read from, and the SHA-256 of each.
    """

    name: str
    level: Literal["character", "word"]
    train: Tensor
    valid: Tensor
    test: Tensor
    vocabulary: Vocabulary
    unknown: dict[str, int] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
