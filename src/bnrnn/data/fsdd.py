"""The Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers, 8 kHz.

Recordings are called as Kaldi recipes of this set call them, ``SPEAKER_DIGIT_INDEX``, so that their alignments fit.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from bnrnn.data.kaldi.fbank import read_wav
from bnrnn.data.registry import DataError, fetch

ARCHIVE = "fsdd/fsdd-26eb9aaf.tar.xz"
HELD_OUT = range(5)
"""Indices of the set's own test part, of each speaker and digit."""


def load() -> dict[str, tuple[np.ndarray, int]]:
    """Samples, float32 in the range of 16-bit integers, and their rate, by name and in the order of the names.

    Raises:
        DataError: the archive is missing or damaged.
    """
    path = fetch(ARCHIVE)
    found: dict[str, tuple[np.ndarray, int]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not member.isfile() or not member.name.endswith(".wav"):
                    continue
                digit, speaker, index = Path(member.name).stem.split("_")
                stream = archive.extractfile(member)
                found[f"{speaker}_{digit}_{index}"] = read_wav(stream.read() if stream else b"")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is not a whole archive ({error}); replace it by a good copy") from error
    return dict(sorted(found.items()))


def held_out(name: str) -> bool:
    """Whether an utterance belongs to the set's own test part."""
    return int(name.rpartition("_")[2]) in HELD_OUT


def speaker(name: str) -> str:
    """Who speaks it."""
    return name.partition("_")[0]
