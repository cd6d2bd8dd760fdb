"""A Kaldi data directory: its utterances, and their features as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from bnrnn.data.kaldi import archive
from bnrnn.data.kaldi.archive import Address
from bnrnn.data.kaldi.fbank import fbank, read_wav
from bnrnn.data.kaldi.features import apply_cmvn, deltas
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.registry import DataError

Cmvn = Literal["none", "mean", "mean-variance"]


@dataclass(frozen=True)
class Reading:
    """How a directory is read.

    Args:
        cmvn: what ``cmvn.scp`` is used for: nothing, the mean, or mean and variance.
        deltas: order of the differences that are added.
        rewrite: ``"OLD=NEW"``: the start OLD of every file's path becomes NEW.
        allow_pipes: whether commands in the lists are run.
    """

    cmvn: Cmvn = "mean-variance"
    deltas: int = 2
    rewrite: str = ""
    allow_pipes: bool = False

    def __post_init__(self) -> None:
        if self.deltas < 0:
            raise ValueError(f"deltas must be at least 0, got {self.deltas}")
        if self.rewrite and "=" not in self.rewrite:
            raise ValueError(f"rewrite must be OLD=NEW, got {self.rewrite!r}")


class KaldiDirectory:
    """Utterances with features in archives (``feats.scp``) or sound in wav files (``wav.scp``, and ``segments``).

    Relative paths are looked for below the directory and each folder above it, so that those of a recipe are found
    from anywhere, and then below the working directory. Nothing is read before it is asked for; the object holds names
    and addresses, and goes to another process as it is.

    Args:
        path: the directory.
        reading: how to read it.
        findings: receives utterances that stand there twice.

    Raises:
        DataError: it has neither list, a line is none, or a command stands in one and is not allowed.
    """

    def __init__(self, path: Path, reading: Reading, findings: Findings) -> None:
        self.path, self.reading = path, reading
        self._found: dict[str, str] = {}
        self._segments: dict[str, tuple[str, float, float]] = {}
        self.is_sound = not (path / "feats.scp").is_file()
        self.list = path / ("wav.scp" if self.is_sound else "feats.scp")
        if not self.list.is_file():
            raise DataError(f"{path} is no Kaldi data directory: it has neither feats.scp nor wav.scp")
        self._addresses = self._read_list(self.list, findings)
        if self.is_sound and (path / "segments").is_file():
            self._read_segments(path / "segments", findings)
        self.names: list[str] = list(self._segments or self._addresses)
        self.speakers = dict(_lines(path / "utt2spk")) if (path / "utt2spk").is_file() else {}
        self._cmvn: dict[str, Address] = {}
        if reading.cmvn != "none":
            if not (path / "cmvn.scp").is_file():
                raise DataError(f"{path} has no cmvn.scp; without it take --cmvn none")
            self._cmvn = self._read_list(path / "cmvn.scp", findings)
        self._statistics = lru_cache(maxsize=4096)(self._read_statistics)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_statistics"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._statistics = lru_cache(maxsize=4096)(self._read_statistics)

    def features(self, name: str) -> np.ndarray:
        """Normalized features with their deltas, float32 ``(T, dimensions)``.

        Raises:
            DataError: a file is missing or damaged; the message names it.
        """
        x = self.raw(name)
        if self.reading.cmvn != "none":
            x = apply_cmvn(x, self._statistics(self._cmvn_key(name)), self.reading.cmvn == "mean-variance")
        return deltas(x, self.reading.deltas) if len(x) else x

    def raw(self, name: str) -> np.ndarray:
        """Features as they are in the archive, or filterbanks and energy of the sound."""
        if not self.is_sound:
            found = archive.read(self._addresses[name])
            if found.ndim != 2:
                raise DataError(f"{self._addresses[name]} holds a vector in place of a matrix")
            return found
        recording, start, end = self._segments.get(name, (name, 0.0, -1.0))
        address = self._addresses[recording]
        content = archive.content(address)
        try:
            return fbank(*read_wav(content, start, end))
        except DataError as error:
            raise DataError(f"{address}: {error}") from error

    def place(self, name: str) -> str:
        """Where an utterance's features come from, for messages."""
        recording = self._segments.get(name, (name, 0.0, 0.0))[0]
        return str(self._addresses[recording])

    def declared(self) -> dict[str, int]:
        """The frames that ``utt2num_frames`` says each utterance has; empty without that file."""
        file = self.path / "utt2num_frames"
        return {name: int(rest) for name, rest in _lines(file)} if file.is_file() else {}

    def _cmvn_key(self, name: str) -> str:
        key = name if name in self._cmvn else self.speakers.get(name, name)
        if key not in self._cmvn:
            raise DataError(f"{self.path / 'cmvn.scp'} has neither the utterance nor its speaker {key}")
        return key

    def _read_statistics(self, key: str) -> np.ndarray:
        return archive.read(self._cmvn[key])

    def _read_list(self, file: Path, findings: Findings) -> dict[str, Address]:
        found: dict[str, Address] = {}
        for name, rest in _lines(file):
            if name in found:
                findings.add(name, str(file), "it is there twice", "duplicate utterances")
                continue
            try:
                address = archive.parse_address(rest)
            except DataError as error:
                raise DataError(f"{file}, {name}: {error}") from error
            if address.command and not self.reading.allow_pipes:
                raise DataError(
                    f"{file}, {name}: {address.path!r} is a command in place of a file, and commands of a list are"
                    " run with --allow-pipes only; look at them first"
                )
            found[name] = address if address.command else self._resolved(address)
        return found

    def _resolved(self, address: Address) -> Address:
        path = self._found.get(address.path)
        if path is None:
            path = self._found[address.path] = self._resolve(address.path)
        return Address(path, address.offset, address.rows, address.columns)

    def _resolve(self, path: str) -> str:
        old, _, new = self.reading.rewrite.partition("=")
        if old and path.startswith(old):
            path = new + path[len(old) :]
        folder = self.path.resolve()
        for base in (folder, *folder.parents):
            if (base / path).exists():
                return str(base / path)
        return path

    def _read_segments(self, file: Path, findings: Findings) -> None:
        for name, rest in _lines(file):
            words = rest.split()
            try:
                recording, start, end = words[0], float(words[1]), float(words[2])
            except (IndexError, ValueError) as error:
                raise DataError(f"{file}: {name} {rest} is not NAME RECORDING START END") from error
            if name in self._segments:
                findings.add(name, str(file), "it is there twice", "duplicate utterances")
            elif recording not in self._addresses:
                findings.add(name, str(file), f"{self.list} has no recording {recording}", "missing recordings")
            else:
                self._segments[name] = (recording, start, end)


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """The names that a list's lines start with, and what follows."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            parts = line.split(None, 1)
            if len(parts) != 2:
                raise DataError(f"{file}, line {number}: {line.strip()[:60]!r} is not a name with something behind it")
            yield parts[0], parts[1].strip()
