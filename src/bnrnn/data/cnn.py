"""The CNN corpus of Hermann et al. 2015: news with names replaced by markers, and questions from their summaries.

The corpus is read once, from its archive as a stream or from the unpacked folder, into a cache of flat arrays that is
memory-mapped afterwards. A ``.question`` file has five parts with a blank line between them: address, passage,
question with one ``@placeholder``, answer ``@entityN``, and a line ``@entityN:name`` for each name.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import filelock

from bnrnn.data.cloze import (
    ENTITY,
    MIN_COUNT,
    PARTS,
    PLACEHOLDER,
    Builder,
    Cloze,
    Text,
    Words,
    best_words,
    lengths,
    open_part,
    sentence_ends,
)
from bnrnn.data.corpus import Vocabulary
from bnrnn.data.registry import DataError, cache_folder

SETTINGS: dict[str, Any] = {"format": 1, "min_count": MIN_COUNT, "sentence_ends": ". ! ?", "relevance": "words shared"}
"""What the cache depends on beside its source."""

FOLDERS = {"training": "train", "validation": "valid", "test": "test"}
TRUNCATED = "the archive ends too early"
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)


class LeftOutError(ValueError):
    """A file is not a question that can be used; the message says why, in words that many files share."""


class Progress(Protocol):
    """Is told how far the reading is."""

    def __call__(self, done: int, total: int) -> None: ...


@dataclass
class Prepared:
    """What a pass over the corpus has found.

    Args:
        path: the cache.
        fresh: whether the pass was made now; False where the cache was current.
        questions: of each part.
        answerable: the share of each part's questions whose answer is named in the four sentences that match best; 1
            minus this is the least error that a reader of these four can have.
        vocabulary: words with an index of their own, the reserved ones among them.
        left_out: reasons, with how many files and the first of them.
        noted: peculiarities of questions that were kept, likewise.
    """

    path: Path
    fresh: bool = True
    questions: dict[str, int] = field(default_factory=dict)
    answerable: dict[str, float] = field(default_factory=dict)
    vocabulary: int = 0
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    noted: dict[str, tuple[int, str]] = field(default_factory=dict)


def cache() -> Path:
    """The folder of the prepared corpus."""
    return cache_folder() / "cnn" / "questions"


def prepare(source: Path, strict: bool = False, progress: Progress | None = None) -> Prepared:
    """Reads the corpus into the cache, unless the cache is of this source and these settings already.

    Args:
        source: ``cnn.tgz`` or another tar archive, or the folder ``questions`` with ``training``, ``validation`` and
            ``test`` in it, or one above it.
        strict: make an error of the first file that would be left out.
        progress: is told bytes of the archive, or files of the folder.

    Raises:
        DataError: there is no such source, a part of it has no questions, another process prepares it, the cache cannot
            be written, or ``strict``. An earlier cache then stays as it is.
    """
    source = source.expanduser()
    if not source.exists():
        raise DataError(f"there is no {source}; name the archive cnn.tgz or the folder questions of the corpus")
    stamp = _stamp(source)
    target = cache()
    with _alone(target):
        held = _header(target)
        if held is not None and _same(held, source, stamp) and not (strict and held["left_out"]):
            facts = ("questions", "answerable", "vocabulary", "left_out", "noted")
            return Prepared(target, False, *(held[name] for name in facts))
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)  # what a build that was killed has left
        part.mkdir(parents=True)
        try:
            found = _build(source, stamp, part, strict, progress)
            _replace(part, target)
        except OSError as error:
            raise DataError(f"cannot write to {part}: {error}; set BNRNN_CACHE to a folder with room") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    found.path = target
    return found


def load() -> Cloze:
    """The prepared corpus, memory-mapped. It is prepared anew where its source or what is made of it has changed.

    Raises:
        DataError: the corpus was never prepared, or the cache is damaged.
    """
    target = cache()
    held = _header(target)
    again = "run bnrnn data prepare cnn --from cnn.tgz (or the folder questions)"
    if held is None:
        raise DataError(f"the CNN corpus is not prepared; {again}")
    source = Path(held["source"])
    if source.exists():
        if not _same(held, source, _stamp(source)):
            prepare(source)
            held = _header(target) or held
    elif held["settings"] != SETTINGS:
        raise DataError(f"the CNN corpus was prepared by another version, and {source} is gone; {again}")
    try:
        symbols = json.loads((target / "vocabulary.json").read_text("utf-8"))
        parts = {part: open_part(target, part, held["lengths"][part]) for part in PARTS}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the prepared CNN corpus is damaged ({error}); delete {target} and {again}") from error
    words = Words(Vocabulary(tuple(symbols), unknown="<unk>"))
    return Cloze(held["name"], words, **parts, sources={source.name: held["sha256"]})


def parse(content: bytes) -> Text:
    """The question in a ``.question`` file.

    Raises:
        LeftOutError: it is none, or one that cannot be used.
    """
    try:
        parts = content.decode("utf-8").replace("\r\n", "\n").strip("\n").split("\n\n")
    except UnicodeDecodeError:
        raise LeftOutError("bytes that are not UTF-8") from None
    if len(parts) == 4 and not content.split(b"\n\n")[1].strip():
        raise LeftOutError("empty passage")
    if len(parts) != 5:
        raise LeftOutError("not five parts with a blank line between them")
    _, context, question, answer, names = parts
    passage, asked = context.lower().split(), question.lower().split()
    if not passage:
        raise LeftOutError("empty passage")
    if asked.count(PLACEHOLDER) != 1:
        raise LeftOutError("no placeholder" if PLACEHOLDER not in asked else "more than one placeholder")
    markers = {line.partition(":")[0].strip().lower() for line in names.split("\n")}
    numbers = sorted(int(match[1]) for marker in markers if (match := ENTITY.fullmatch(marker)))
    candidates = [f"@entity{number}" for number in numbers]
    if answer.strip().lower() not in candidates:
        raise LeftOutError("an answer that is not among the entities")
    return Text(passage, sentence_ends(passage), asked, candidates, answer.strip().lower())


def _build(source: Path, stamp: list[Any], folder: Path, strict: bool, progress: Progress | None) -> Prepared:
    builder, digest, found = Builder(folder), hashlib.sha256(), Prepared(folder)
    named: dict[str, int] = dict.fromkeys(FOLDERS.values(), 0)
    reader = _folder_members if source.is_dir() else _archive_members

    def note(where: dict[str, tuple[int, str]], reason: str, name: str) -> None:
        if strict and where is found.left_out:
            raise DataError(f"{source}: {name}: {reason}")
        count, first = where.get(reason, (0, name))
        where[reason] = (count + 1, first)

    for name, content in reader(source, digest, progress):
        if content is None:
            note(found.left_out, TRUNCATED, name)
            continue
        part = _part_of(name)
        if part is None:
            note(found.left_out, "not a question", name)
            continue
        try:
            text = parse(content)
        except LeftOutError as reason:
            note(found.left_out, str(reason), name)
            continue
        if not {".", "!", "?"}.intersection(text.passage):
            note(found.noted, "a passage without a sentence end, taken as one sentence", name)
        if text.answer not in text.passage:
            note(found.noted, "an answer that the passage does not name", name)
        relevance = builder.add(part, text, PurePosixPath(name).name)
        named[part] += text.answer in best_words(text, relevance, 4)
    found.questions = {part: builder.count(part) for part in PARTS}
    empty = [folder for folder, part in FOLDERS.items() if not found.questions[part]]
    if empty:
        raise DataError(
            f"{source} has no questions for {', '.join(empty)};"
            f" it must hold questions/{{{','.join(FOLDERS)}}}/*.question"
            + (f" ({TRUNCATED})" if TRUNCATED in found.left_out else "")
        )
    name = "CNN" + (" (from a truncated archive)" if TRUNCATED in found.left_out else "")
    cloze = builder.finish(name)
    found.answerable = {part: named[part] / count for part, count in found.questions.items()}
    found.vocabulary = len(cloze.words.vocabulary)
    (folder / "vocabulary.json").write_text(json.dumps(cloze.words.vocabulary.symbols), "utf-8")
    header = {
        "settings": SETTINGS,
        "name": name,
        "source": str(source.resolve()),
        "stamp": stamp,
        "sha256": digest.hexdigest(),
        "questions": found.questions,
        "answerable": found.answerable,
        "vocabulary": found.vocabulary,
        "lengths": {part: lengths(getattr(cloze, part)) for part in PARTS},
        "left_out": found.left_out,
        "noted": found.noted,
    }
    (folder / "header.json").write_text(json.dumps(header, indent=1), "utf-8")
    return found


def _part_of(name: str) -> str | None:
    """The part that a file belongs to by its path; None if it is not a question's."""
    path = PurePosixPath(name)
    if path.suffix != ".question" or path.name.startswith("."):
        return None
    return FOLDERS.get(path.parent.name)


def _folder_members(source: Path, digest: Any, progress: Progress | None) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of a folder; the digest is taken over both."""
    files = _files(source)
    for done, path in enumerate(files):
        name = f"{source.name}/{path.relative_to(source).as_posix()}"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
        if progress is not None and done % 100 == 0:
            progress(done, len(files))
        yield name, content


def _archive_members(source: Path, digest: Any, progress: Progress | None) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the files of an archive, read as a stream; None as content where it ends too early."""
    last = ""
    with source.open("rb") as raw:
        watched = _Watched(raw, digest, source.stat().st_size, progress)
        try:
            stream: Any = _Tail(_decompressed(source, watched))
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    archive.members = []  # pyright: ignore[reportAttributeAccessIssue]: it keeps all it has seen
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        content = file.read()
                        last = member.name
                        yield last, content
            while stream.read(1 << 20):
                pass
            if stream.tail.strip(b"\0"):
                raise EOFError("it has no end mark")
        except _DAMAGE as error:
            if not last:
                raise DataError(f"{source} is not a tar archive, or nothing of it can be read ({error})") from error
            yield f"after {last}", None
        while watched.read(1 << 20):
            pass


def _decompressed(source: Path, stream: Any) -> Any:
    """The stream's content, by the first bytes of the file."""
    with source.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    return lzma.LZMAFile(stream) if start == b"\xfd7zXZ\0" else stream


class _Tail:
    """A stream that remembers its last bytes: a whole tar archive ends in a block of zeros."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.tail = stream, b""

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(size)
        self.tail = (self.tail + block)[-512:]
        return block


class _Watched(io.RawIOBase):
    """A file whose bytes are digested and counted as they are read."""

    def __init__(self, raw: IO[bytes], digest: Any, total: int, progress: Progress | None) -> None:
        self.raw, self.digest, self.total, self.progress = raw, digest, total, progress
        self.done = self.told = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self.raw.read(size)
        self.digest.update(block)
        self.done += len(block)
        if self.progress is not None and self.done - self.told > 1 << 18:
            self.told = self.done
            self.progress(self.done, self.total)
        return block


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _stamp(source: Path) -> list[Any]:
    """What changes with the source and is quick to find: sizes and times, of a folder those of all its files."""
    if source.is_file():
        stat = source.stat()
        return [stat.st_size, stat.st_mtime_ns]
    digest, count = hashlib.sha256(), 0
    for path in _files(source):
        stat = path.stat()
        digest.update(f"{path.relative_to(source)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        count += 1
    return [count, digest.hexdigest()]


def _same(held: dict[str, Any], source: Path, stamp: list[Any]) -> bool:
    """Whether a cache is of this source and these settings; an archive with other times is judged by its content."""
    if held["settings"] != SETTINGS:
        return False
    if held["source"] == str(source.resolve()) and held["stamp"] == stamp:
        return True
    if source.is_dir():
        return False
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == held["sha256"]


def _header(folder: Path) -> dict[str, Any] | None:
    try:
        header = json.loads((folder / "header.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and "settings" in header else None


def _replace(part: Path, target: Path) -> None:
    """Puts a whole new folder in an old one's place; between the two there is none, which a reader tells."""
    for path in part.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keeps other processes from preparing the same cache; the lock goes with the process, however that ends."""
    lock = filelock.FileLock(target.with_name(target.name + ".lock"), timeout=0)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise DataError(f"another process prepares the corpus in {target.parent}; wait for it") from None
    except OSError as error:
        raise DataError(f"cannot write to {target.parent}: {error}; set BNRNN_CACHE to a folder of yours") from error
    try:
        yield
    finally:
        lock.release()
