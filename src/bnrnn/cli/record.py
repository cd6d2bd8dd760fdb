"""``bnrnn record``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "keep what is small of runs: config, metrics, results"


@dataclass(frozen=True)
class Record:
    """Copy the metrics and JSON files of runs, without their tensors, and bring config.json to this version."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders; of one that lies in the records already, config.json alone is rewritten."""
    out: Path = Path("records")
    """Folder of all records; each has its run's name there."""


def run(arguments: list[str]) -> int:
    chosen = parse(Record, arguments, "bnrnn record")
    if not chosen.runs:
        raise UsageError("bnrnn record needs at least one run folder")
    from bnrnn.experiments.records import record

    for path in chosen.runs:
        print(record(path, chosen.out))
    return 0
