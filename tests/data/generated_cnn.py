"""A made-up corpus in the form of the CNN questions, of any size."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PARTS = {"training": 0.9, "validation": 0.05, "test": 0.05}


def question(number: int, words: int = 780, vocabulary: int = 120_000) -> tuple[str, bytes]:
    """A file's name and content: a passage of about so many words, whose frequencies fall as those of a language."""
    source = random.Random(number)
    markers = [f"@entity{source.randrange(500)}" for _ in range(24)]
    length = source.randint(words // 2, words + words // 2)
    passage = [f"w{int(vocabulary ** source.random()) - 1}" for _ in range(length)]
    for place in range(5, length, 21):
        passage[place] = source.choice(markers)
    for place in range(17, length, 19):
        passage[place] = "."
    passage[2] = str(source.randrange(10_000))
    answer = next(word for word in passage if word.startswith("@"))
    asked = [*passage[20:30], "@placeholder"]
    names = "\n".join(f"{marker}:Name {marker[7:]}" for marker in sorted(set(markers)))
    content = f"http://example.org/{number}\n\n{' '.join(passage)}\n\n{' '.join(asked)}\n\n{answer}\n\n{names}\n"
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
