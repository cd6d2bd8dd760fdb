"""Any text of the user's as a character-level corpus."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.data.registry import DataError

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def load(files: Sequence[str | Path], *, valid: float = 0.05, test: float = 0.05, min_count: int = 1) -> Corpus:
    """Reads UTF-8 files as one stream, in the given order, and splits it in reading order.

    The vocabulary is what occurs in the training part, in code-point order, and U+FFFD, which stands for
    every other character of the later parts.

    Args:
        files: one file or more.
        valid, test: shares of the validation and the test part, cut from the end.
        min_count: characters that occur less often in the training part count as unknown, so that the model
            sees some of these in training.

    Raises:
        ValueError: no file, or shares outside (0, 1).
        DataError: a file is missing, empty or not UTF-8, or the text is too short to be split.
    """
    if not files:
        raise ValueError("files must name at least one file")
    if not (valid > 0 and test > 0 and valid + test < 1):
        raise ValueError(f"valid and test must be positive shares, together below 1, got {valid} and {test}")
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, got {min_count}")
    contents = [_read(Path(file)) for file in files]
    points = np.concatenate([_points(Path(file), content) for file, content in zip(files, contents, strict=True)])
    valid_length, test_length = int(len(points) * valid), int(len(points) * test)
    train_length = len(points) - valid_length - test_length
    if not (train_length and valid_length and test_length):
        raise DataError(f"the text has {len(points)} characters, too few to be split into three parts")

    symbols, counts = np.unique(points[:train_length], return_counts=True)
    symbols = symbols[(counts >= min_count) & (symbols != ord(UNKNOWN))]
    if not len(symbols):
        raise DataError(f"no character occurs {min_count} times in the training part; lower min_count")
    vocabulary = Vocabulary((*map(chr, symbols), UNKNOWN), unknown=UNKNOWN)
    indices = _encode(points, symbols)
    train, held_out, final = indices.to(vocabulary.dtype).split([train_length, valid_length, test_length])
    unknown = {
        part: int((stream == len(symbols)).sum())
        for part, stream in (("train", train), ("valid", held_out), ("test", final))
    }
    name = ", ".join(Path(file).name for file in files)
    sources = {
        f"{place}. {Path(file).name}": hashlib.sha256(content).hexdigest()
        for place, (file, content) in enumerate(zip(files, contents, strict=True), 1)
    }
    return Corpus(name, "character", train, held_out, final, vocabulary, unknown, sources)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _points(path: Path, content: bytes) -> NDArray[np.uint32]:
    """The file's code points; a byte order mark is dropped and line ends become line feeds."""
    try:
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at position {error.start})"
        ) from error
    if not text:
        raise DataError(f"{path} is empty")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _encode(points: NDArray[np.uint32], symbols: NDArray[np.uint32]) -> Tensor:
    """Index of each code point among the sorted ``symbols``, and ``len(symbols)`` for any other."""
    places = np.searchsorted(symbols, points)
    places[symbols[np.minimum(places, len(symbols) - 1)] != points] = len(symbols)
    return torch.from_numpy(places)
