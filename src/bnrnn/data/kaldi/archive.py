"""Objects in Kaldi's archives, binary, compressed or text: read one by one or by address, and written.

Binary matrices and vectors are read by kaldiio. Nothing that runs code is: pickled objects, which kaldiio would load,
are refused, and a command in place of a file runs only where the caller allows it.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from bnrnn.data.registry import DataError

Kind = Literal["array", "integers", "posteriors", "pairs"]
Posteriors = list[list[tuple[int, float]]]
"""Of each frame (or slot): indices with their weights."""

_BINARY = b"\0B"
_INTEGER = np.dtype([("size", "i1"), ("value", "<i4")])
_FLOAT = np.dtype([("size", "i1"), ("value", "<f4")])
_BEYOND = 3  # how far a range may end beyond the object, as in Kaldi: ends of segments are rounded
_FAULTS = (AssertionError, EOFError, IndexError, KeyError, OSError, RuntimeError, ValueError, struct.error)


@dataclass(frozen=True)
class Address:
    """Where an object lies, as the right side of an scp's line says it.

    Args:
        path: the file, or the command whose output holds the object.
        offset: bytes before it.
        rows, columns: first and last that a range ``[first:last]`` or ``[first:last,first:last]`` keeps; None for all.
        command: whether ``path`` is a command.
    """

    path: str
    offset: int = 0
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None
    command: bool = False

    def __str__(self) -> str:
        return self.path if self.command else f"{self.path}:{self.offset}" if self.offset else self.path


def parse_address(text: str) -> Address:
    """The address that a text such as ``feats.ark:1234[0:99]`` or ``sph2pipe a.sph |`` stands for.

    Raises:
        DataError: a range that is none, or a pipe that would write.
    """
    text = text.strip()
    rows = columns = None
    if text.endswith("]"):
        text, _, inner = text[:-1].rpartition("[")
        parts = inner.split(",")
        if not text or len(parts) > 2:
            raise DataError(f"[{inner}] is not a range such as [0:99] or [0:99,0:12]")
        rows, columns = (_range(part) for part in [*parts, ""][:2])
        text = text.rstrip()
    if text.endswith("|"):
        return Address(text[:-1].strip(), 0, rows, columns, command=True)
    if text.startswith("|"):
        raise DataError(f"{text!r} writes into a command; to read from one put the | at its end")
    path, colon, offset = text.rpartition(":")
    if colon and offset.isdigit():
        return Address(path, int(offset), rows, columns)
    return Address(text, 0, rows, columns)


def _range(text: str) -> tuple[int, int] | None:
    if text in ("", ":"):
        return None
    if not re.fullmatch(r"\d+:\d+", text):
        raise DataError(f"[{text}] is not a range such as [0:99]")
    first, last = map(int, text.split(":"))
    if last < first:
        raise DataError(f"the range [{text}] is empty")
    return first, last


def read(address: Address, kind: Kind = "array") -> Any:
    """The object at an address, with its range applied.

    The caller decides whether commands may run: it checks ``address.command`` before.

    Raises:
        DataError: the file is missing, ends too early or holds something else; the message names it.
    """
    try:
        with _opened(address) as stream:
            found = _READERS[kind](stream)
    except DataError as error:
        raise DataError(f"{address}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{address.path} is missing") from error
    except _FAULTS as error:
        raise DataError(f"{address} cannot be read: {_reason(error)}") from error
    for axis, chosen in enumerate((address.rows, address.columns)):
        if chosen is None:
            continue
        size = found.shape[axis] if axis < found.ndim else 0
        if chosen[0] >= size or chosen[1] >= size + _BEYOND:
            raise DataError(f"{address}: the range ends at {chosen[1]}, and the object has shape {found.shape}")
        found = np.take(found, range(chosen[0], min(chosen[1] + 1, size)), axis)
    return found


def content(address: Address) -> bytes:
    """All that a file or a command gives, for what is no archive, as sound.

    Raises:
        DataError: see :func:`read`.
    """
    try:
        with _opened(address) as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise DataError(f"{address.path} is missing") from error
    except _FAULTS as error:
        raise DataError(f"{address} cannot be read: {_reason(error)}") from error


def items(path: str | Path, kind: Kind = "array") -> Iterator[tuple[str, Any]]:
    """The objects of an archive in its order, with their names; gzipped or not, binary or text.

    Args:
        path: the archive.
        kind: ``"array"``: matrices and vectors; ``"integers"``: vectors of integers, as alignments are;
            ``"posteriors"``: :data:`Posteriors`; ``"pairs"``: pairs of reals, ``(count, 2)``.

    Raises:
        DataError: the archive is missing, truncated or holds something else; the message names it and the object.
    """
    name = None
    try:
        with _opened(Address(str(path))) as stream:
            while name := _token(stream):
                yield name, _READERS[kind](stream)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (DataError, *_FAULTS) as error:
        place = f" in {name}" if name else ""
        raise DataError(f"{path} cannot be read{place}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, (EOFError, struct.error)) or "reshape" in message or "multiple of element" in message:
        return "it ends too early"
    return message or type(error).__name__


@contextmanager
def _opened(address: Address) -> Iterator[IO[bytes]]:
    """A stream at the object; gzip is seen by its first bytes."""
    if address.command:
        done = subprocess.run(address.path, shell=True, capture_output=True, check=False)
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").split()[-30:]
            raise DataError(f"the command ended with code {done.returncode}: {' '.join(words)}")
        yield io.BytesIO(done.stdout)
        return
    with open(address.path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        opened: Any = gzip.GzipFile(fileobj=stream) if packed else stream
        if address.offset:
            if not packed and address.offset >= os.fstat(stream.fileno()).st_size:
                raise EOFError
            opened.seek(address.offset)
        yield opened


def _token(stream: IO[bytes]) -> str:
    """What comes before the next space, line breaks before it left out; empty at the end."""
    found = bytearray()
    while (byte := stream.read(1)) and byte != b" ":
        if byte != b"\n" or found:
            found += byte
    if not byte and found:
        raise DataError(f"it ends in the middle of the name {found[:40].decode(errors='replace')!r}")
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise DataError("a name is not text; is this a Kaldi archive?") from error


def _exactly(stream: IO[bytes], count: int) -> bytes:
    found = stream.read(count)
    if len(found) != count:
        raise EOFError
    return found


def _is_binary(stream: IO[bytes]) -> bool:
    """Whether a binary object follows; its mark stays unread."""
    mark = stream.read(2)
    stream.seek(-len(mark), os.SEEK_CUR)
    if not mark:
        raise EOFError
    return mark == _BINARY


def _array(stream: IO[bytes]) -> np.ndarray:
    if not _is_binary(stream):
        return _text_array(stream)
    head = _exactly(stream, 6)
    stream.seek(-6, os.SEEK_CUR)
    if head[2:3] == b"\4":
        return _integers(stream)
    if not re.match(rb"\0B(CM|FM|DM|FV|DV)", head):
        raise DataError(f"it holds neither a matrix nor a vector, but {head[2:5]!r}")
    from kaldiio.matio import read_kaldi

    return np.asarray(read_kaldi(stream))


def _text_array(stream: IO[bytes]) -> np.ndarray:
    """``[ 1 2 3 ]``, or rows between line breaks; without brackets one line. Always float32."""
    line = stream.readline()
    start = line.partition(b"[")
    if not start[1]:
        return _numbers(line)
    if start[0].strip():
        raise DataError(f"{start[0][:40]!r} stands before the bracket")
    rows, rest, first = [], start[2], True
    while True:
        inner, end, after = rest.partition(b"]")
        if inner.strip():
            rows.append(_numbers(inner))
            vector = first and bool(end)
        else:
            vector = first and bool(end)
        if end:
            if after.strip():
                raise DataError(f"{after[:40]!r} stands after the bracket")
            break
        first = False
        rest = stream.readline()
        if not rest:
            raise EOFError
    if vector:
        return rows[0] if rows else np.zeros(0, np.float32)
    if not rows:
        return np.zeros((0, 0), np.float32)
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"its rows have from {min(map(len, rows))} to {max(map(len, rows))} numbers")
    return np.stack(rows)


def _numbers(text: bytes) -> np.ndarray:
    return np.array(text.split(), dtype=np.float32)


def _integers(stream: IO[bytes]) -> np.ndarray:
    if not _is_binary(stream):
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        words = line.split()
        if words[:1] == [b"["] and words[-1:] == [b"]"]:
            words = words[1:-1]
        return np.array(words, dtype=np.int32)
    _exactly(stream, 2)
    return _basic(stream, _count(stream), _INTEGER)


def _count(stream: IO[bytes]) -> int:
    size, value = struct.unpack("<bi", _exactly(stream, 5))
    if size != 4 or value < 0:
        raise DataError("it holds no integers where they are expected")
    return value


def _basic(stream: IO[bytes], count: int, kind: np.dtype) -> np.ndarray:
    """Numbers as WriteBasicType writes them: each with its size before it."""
    found = np.frombuffer(_exactly(stream, count * kind.itemsize), kind)
    if (found["size"] != 4).any():
        raise DataError("it holds other numbers than are expected")
    return found["value"].copy()


def _posteriors(stream: IO[bytes]) -> Posteriors:
    if not _is_binary(stream):
        found: Posteriors = []
        for group in re.findall(rb"\[([^\]]*)\]", stream.readline()):
            words = group.split()
            found.append([(int(i), float(w)) for i, w in zip(words[::2], words[1::2], strict=True)])
        return found
    _exactly(stream, 2)
    pair = np.dtype([("index", _INTEGER), ("weight", _FLOAT)])
    found = []
    for _ in range(_count(stream)):
        values = np.frombuffer(_exactly(stream, (count := _count(stream)) * pair.itemsize), pair, count)
        found.append([*zip(values["index"]["value"].tolist(), values["weight"]["value"].tolist(), strict=True)])
    return found


def _pairs(stream: IO[bytes]) -> np.ndarray:
    if not _is_binary(stream):
        return _numbers(stream.readline().replace(b";", b" ")).reshape(-1, 2)
    _exactly(stream, 2)
    return _basic(stream, 2 * _count(stream), _FLOAT).reshape(-1, 2)


_READERS: dict[Kind, Callable[[IO[bytes]], Any]] = {
    "array": _array,
    "integers": _integers,
    "posteriors": _posteriors,
    "pairs": _pairs,
}


class Writer:
    """Writes matrices one at a time to what a Kaldi specifier names: ``ark:FILE``, ``ark,t:FILE``,
    ``ark,scp:FILE.ark,FILE.scp``; ``-`` for the standard output.

    Args:
        specifier: where to.

    Raises:
        DataError: it is no such specifier, or names a command.
    """

    def __init__(self, specifier: str) -> None:
        kinds, colon, names = specifier.partition(":")
        parts = kinds.split(",")
        count = parts.count("ark") + parts.count("scp")
        files = names.split(",") if count == 2 else [names]
        if not colon or "ark" not in parts or set(parts) - {"ark", "scp", "t", "f"} or len(files) != count:
            raise DataError(
                f"{specifier!r} does not say where to write; it takes the form ark,scp:FILE.ark,FILE.scp or ark:FILE"
            )
        if any("|" in name or not name for name in files):
            raise DataError(f"{specifier!r} must name files; no command is run")
        from kaldiio import WriteHelper

        self._helper: Any = WriteHelper(specifier)

    def __call__(self, name: str, value: np.ndarray) -> None:
        self._helper(name, value)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._helper.close()


def write_integers(path: Path, arrays: dict[str, np.ndarray], *, text: bool = False) -> None:
    """Writes vectors of integers as ``ali-to-pdf`` does; gzipped where the name ends in ``.gz``."""
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb") if path.suffix == ".gz" else file as stream:
        for name, values in arrays.items():
            stream.write(f"{name} ".encode())
            if text:
                stream.write(" ".join(map(str, values.tolist())).encode() + b" \n")
                continue
            written = np.empty(len(values) + 1, _INTEGER)
            written["size"], written["value"][0], written["value"][1:] = 4, len(values), values
            stream.write(_BINARY + written.tobytes())
