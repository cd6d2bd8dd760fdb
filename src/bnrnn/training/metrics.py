"""The record of a run: one JSON object a line, cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from bnrnn.training.checkpoint import RunError


class MetricsLog:
    """``metrics.jsonl`` of a run folder.

    Args:
        path: the file; created where missing.
        length: bytes that belong to the run so far; what a killed process wrote beyond is cut off.

    Raises:
        RunError: the file is shorter than that.
    """

    def __init__(self, path: Path, length: int) -> None:
        found = path.stat().st_size if path.exists() else 0
        if found < length:
            raise RunError(
                f"{path} was shortened: it has {found:,} bytes, and had {length:,} when the checkpoint was saved;"
                " put the whole file back, or start afresh in another folder"
            )
        self.path = path
        self._stream = path.open("ab")
        self._stream.truncate(length)
        self._stream.seek(length)

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row.

        Raises:
            RunError: the disk is full or cannot be written.
        """
        with self._naming_the_file():
            self._stream.write(json.dumps(row).encode() + b"\n")
            self._stream.flush()

    def sync(self) -> int:
        """Brings all rows to the disk and returns their length in bytes.

        Raises:
            RunError: the disk is full or cannot be written.
        """
        with self._naming_the_file():
            self._stream.flush()
            os.fsync(self._stream.fileno())
        return self._stream.tell()

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write {self.path} ({error.strerror or error})") from error

    def close(self) -> None:
        with suppress(OSError):  # of rows that a write could not bring to the disk, which was an error then
            self._stream.close()


class Window:
    """Means of the training metrics since the last logged row; JSON, so that a checkpoint can hold it."""

    def __init__(self, sums: dict[str, float] | None = None, count: int = 0) -> None:
        self.sums = dict(sums or {})
        self.count = count

    def add(self, metrics: dict[str, Tensor | float]) -> None:
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.sums.items()} if self.count else {}
