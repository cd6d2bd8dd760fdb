"""A made-up corpus in the form of the CNN questions, of any size."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

PARTS = {"training": 0.9, "validation": 0.05, "test": 0.05}


@cache
def _words(count: int) -> list[str]:
    return [f"w{number}" for number in range(count)]


def question(number: int, words: int = 780, vocabulary: int = 120_000) -> tuple[str, bytes]:
    """A file's name and content: a passage of about so many words, whose frequencies fall as those of a language."""
    source = np.random.default_rng(number)
    markers = [f"@entity{k}" for k in source.integers(500, size=24)]
    length = int(source.integers(words // 2, words + words // 2))
    known = _words(vocabulary)
    passage = [known[k] for k in (vocabulary ** source.random(length)).astype(int) - 1]
    for place in range(5, length, 21):
        passage[place] = markers[place % 24]
    for place in range(17, length, 19):
        passage[place] = "."
    passage[2] = str(source.integers(10_000))
    asked = [*passage[20:30], "@placeholder"]
    names = "\n".join(f"{marker}:Name {marker[7:]}" for marker in sorted(set(markers)))
    content = f"http://example.org/{number}\n\n{' '.join(passage)}\n\n{' '.join(asked)}\n\n{passage[5]}\n\n{names}\n"
    return hashlib.sha1(str(number).encode()).hexdigest() + ".question", content.encode()


def members(count: int, **options: int) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of so many questions, in three parts."""
    done = 0
    for part, share in PARTS.items():
        for number in range(done, done + round(count * share)):
            name, content = question(number, **options)
            yield f"cnn/questions/{part}/{name}", content
        done += round(count * share)


def write_tar(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The files as an archive that is not compressed."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        _add(archive, files)
    return content.getvalue()


def write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """The files as a compressed archive."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        _add(archive, files)
    return path


def _add(archive: tarfile.TarFile, files: Iterable[tuple[str, bytes]]) -> None:
    for name, content in files:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
