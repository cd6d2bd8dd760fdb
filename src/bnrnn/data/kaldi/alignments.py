"""Frame targets: Kaldi's alignments, archives of integers, or one symbol a frame."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bnrnn.data.kaldi import archive
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.kaldi.transitions import TransitionModel, read_transition_model
from bnrnn.data.registry import DataError

TargetKind = Literal["pdf", "phone"]


@dataclass(frozen=True)
class Targets:
    """What a network is to say of each frame.

    Args:
        values: of each utterance, int32 ``(frames,)``.
        places: the file that each stands in.
        count: how many different ones there are: all are below.
        symbols: what they stand for; None for numbers.
        sources: the files' SHA-256 by their names.
    """

    values: dict[str, np.ndarray]
    places: dict[str, str]
    count: int
    symbols: tuple[str, ...] | None
    sources: dict[str, str]


def read_targets(
    path: Path,
    findings: Findings,
    kind: TargetKind = "pdf",
    model: Path | None = None,
    count: int | None = None,
    symbols: tuple[str, ...] | None = None,
) -> Targets:
    """Targets of every utterance that has some.

    Args:
        path: a folder of ``ali.*.gz`` (or ``ali.*``) with ``final.mdl``: transition ids, which the model turns into
            what ``kind`` says. Or an archive of integers as ``ali-to-pdf`` and ``ali-to-phones --per-frame`` write it,
            or a text file with a name and one symbol a frame in a line; either may be gzipped.
        findings: receives the utterances that cannot be used.
        kind: densities (clustered states) or phones.
        model: transition model, where it is not ``path``'s own ``final.mdl``.
        count: number of targets; None for the model's, or one more than the largest.
        symbols: those known already: others are at fault then.

    Raises:
        DataError: a file is missing or no such file.
    """
    if not path.exists():
        raise DataError(f"the alignments {path} are missing")
    if path.is_dir():
        return _from_model(path, findings, kind, model or path / "final.mdl")
    if _has_symbols(path):
        return _from_symbols(path, findings, symbols)
    values, places = _collect([path], findings, None)
    largest = max((int(v.max()) for v in values.values() if len(v)), default=-1)
    return Targets(values, places, count or largest + 1, None, {path.name: _sha256(path)})


def _from_model(folder: Path, findings: Findings, kind: TargetKind, model: Path) -> Targets:
    files = sorted((p for p in folder.iterdir() if re.fullmatch(r"ali(\.\d+)?(\.gz)?", p.name)), key=_number)
    if not files:
        raise DataError(f"{folder} has no alignments: no file there is called ali.1.gz or the like")
    transitions = read_transition_model(model)
    ids, places = _collect(files, findings, transitions)
    table = transitions.pdfs if kind == "pdf" else transitions.phones
    values = {name: table[alignment] for name, alignment in ids.items()}
    count = transitions.pdf_count if kind == "pdf" else transitions.phone_count
    return Targets(values, places, count, None, {p.name: _sha256(p) for p in (*files, model)})


def _collect(
    files: list[Path], findings: Findings, model: TransitionModel | None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Integers by utterance; with a model those that can be its transitions."""
    values: dict[str, np.ndarray] = {}
    places: dict[str, str] = {}
    for file in files:
        found, name = archive.items(file, "integers"), ""
        while True:
            try:
                name, numbers = next(found)
            except StopIteration:
                break
            except DataError as error:
                findings.add(f"after {name}" if name else "(the first)", str(file), str(error), "truncated alignments")
                break
            if name in values:
                findings.add(name, str(file), "it is there twice", "duplicate alignments")
            elif len(numbers) and numbers.min() < 0:
                findings.add(name, str(file), f"target {numbers.min()} is below 0", "impossible targets")
            elif model is not None and (fault := model.fault(numbers)) is not None:
                what = f"{fault}; is the model another one's?"
                findings.add(name, str(file), what, "alignments of another model")
            else:
                values[name], places[name] = numbers, str(file)
    return values, places


def _from_symbols(path: Path, findings: Findings, known: tuple[str, ...] | None) -> Targets:
    rows: dict[str, list[str]] = {}
    for line in _lines(path):
        name, *symbols = line.split()
        if name in rows:
            findings.add(name, str(path), "it is there twice", "duplicate alignments")
        else:
            rows[name] = symbols
    table = known or tuple(sorted({symbol for symbols in rows.values() for symbol in symbols}))
    index = {symbol: i for i, symbol in enumerate(table)}
    values: dict[str, np.ndarray] = {}
    for name, symbols in rows.items():
        strange = next((symbol for symbol in symbols if symbol not in index), None)
        if strange is not None:
            what = f"target {strange!r} is none of the {len(table)} that the training part has"
            findings.add(name, str(path), what, "targets beyond the softmax")
        else:
            values[name] = np.array([index[symbol] for symbol in symbols], dtype=np.int32)
    return Targets(values, dict.fromkeys(values, str(path)), len(table), table, {path.name: _sha256(path)})


def _has_symbols(path: Path) -> bool:
    """Whether the first line is text with something that is no number behind the name."""
    with _opened(path) as stream:
        head = stream.readline(1 << 16)
    if b"\0" in head:
        return False
    words = head.split()[1:]
    return any(word not in (b"[", b"]") and not word.isdigit() for word in words)


def _lines(path: Path) -> Iterator[str]:
    with _opened(path) as stream:
        for line in stream:
            if line.strip():
                yield line.decode(errors="replace")


def _opened(path: Path) -> Any:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"\d+", path.name)
    return int(digits[0]) if digits else 0, path.name


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
