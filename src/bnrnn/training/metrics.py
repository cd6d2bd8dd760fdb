"""The record of a run: one JSON object a line, cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor


class MetricsLog:
    """``metrics.jsonl`` of a run folder.

    Args:
        path: the file; created where missing.
        length: bytes that belong to the run so far; what a killed process wrote beyond is cut off.
    """

    def __init__(self, path: Path, length: int) -> None:
        self._stream = path.open("ab")
        self._stream.truncate(length)
        self._stream.seek(length)

    def write(self, row: dict[str, Any]) -> None:
        self._stream.write(json.dumps(row).encode() + b"\n")
        self._stream.flush()

    def sync(self) -> int:
        """Brings all rows to the disk and returns their length in bytes."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()

    def close(self) -> None:
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
