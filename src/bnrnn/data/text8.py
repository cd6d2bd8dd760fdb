"""text8: the first 100,000,000 characters of a cleaned English Wikipedia, the letters a to z and the space.

Split 90M / 5M / 5M in reading order (Cooijmans et al. 2017, 5.3). The decoded stream lies in the cache, one
byte a character, and is memory-mapped: loading costs no memory.
"""

from __future__ import annotations

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.data.registry import FILES, DataError, atomic_file, cache_folder, fetch

LENGTH = 100_000_000
SLICE_LENGTH = 6_877_825
VOCABULARY = Vocabulary((" ", *"abcdefghijklmnopqrstuvwxyz"))

_ZIP = "text8/text8.zip"
_SLICE = "text8/text8.first6877825.xz"


def load(slice: int | None = None) -> Corpus:
    """The corpus, memory-mapped.

    Args:
        slice: use the first so many characters only, split in the same proportions, 18 : 1 : 1. Up to
            6,877,825 can come from the file ``text8.first6877825.xz``. The corpus' name says it is a slice.

    Raises:
        ValueError: slice out of range.
        DataError: the file is missing or damaged.
    """
    if slice is not None and (isinstance(slice, bool) or not isinstance(slice, int)):
        raise TypeError(f"slice must be an integer or None, got {slice!r}")
    if slice is not None and not 20 <= slice <= LENGTH:
        raise ValueError(f"slice must be 20 to {LENGTH:,} characters, got {slice:,}")
    length = LENGTH if slice is None else slice
    path, available = _decoded(length)
    stream = torch.from_file(str(path), shared=False, size=available, dtype=torch.uint8)[:length]
    held_out = length // 20
    train, valid, test = stream.split([length - 2 * held_out, held_out, held_out])
    name = "text8" if length == LENGTH else f"text8 slice (first {length:,} characters)"
    return Corpus(name, "character", train, valid, test, VOCABULARY, sources={name: _digest(stream)})


def _digest(stream: Tensor) -> str:
    """The SHA-256 of what is used, which may come from either file."""
    return hashlib.sha256(stream.numpy().data).hexdigest()


def _decoded(length: int) -> tuple[Path, int]:
    """The decoded stream that has at least ``length`` characters, and how many it has."""
    whole = cache_folder() / f"text8/text8-{FILES[_ZIP].sha256[:12]}.u8"
    part = cache_folder() / f"text8/text8-{FILES[_SLICE].sha256[:12]}.u8"
    if _complete(whole, LENGTH):
        return whole, LENGTH
    if length > SLICE_LENGTH:
        return _decode(fetch(_ZIP), whole, LENGTH), LENGTH
    if _complete(part, SLICE_LENGTH):
        return part, SLICE_LENGTH
    try:
        source = fetch(_SLICE)
    except DataError as missing:
        try:
            return _decode(fetch(_ZIP), whole, LENGTH), LENGTH
        except DataError as error:
            raise DataError(f"{error}; the slice: {missing}") from error
    return _decode(source, part, SLICE_LENGTH), SLICE_LENGTH


def _complete(path: Path, length: int) -> bool:
    return path.exists() and path.stat().st_size == length


def _decode(source: Path, target: Path, length: int) -> Path:
    """Writes the indices of the compressed text to ``target``, a block at a time."""
    table = np.full(256, 255, np.uint8)
    table[[ord(symbol) for symbol in VOCABULARY.symbols]] = np.arange(len(VOCABULARY), dtype=np.uint8)
    written = 0
    with atomic_file(target) as part:
        with part.open("wb") as stream:
            for block in _blocks(source):
                indices = table[np.frombuffer(block, np.uint8)]
                if (indices == 255).any():
                    raise DataError(f"{source} holds other characters than a to z and space; replace it")
                stream.write(indices.tobytes())
                written += len(block)
        if written != length:
            raise DataError(f"{source} holds {written:,} characters instead of {length:,}; replace it")
    return target


def _blocks(source: Path) -> Iterator[bytes]:
    try:
        if source.suffix == ".zip":
            with zipfile.ZipFile(source) as archive, archive.open("text8") as stream:
                while block := stream.read(1 << 22):
                    yield block
        else:
            with lzma.open(source) as stream:
                while block := stream.read(1 << 22):
                    yield block
    except (zipfile.BadZipFile, KeyError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise DataError(f"{source} is damaged ({error}); replace it by a good copy") from error
