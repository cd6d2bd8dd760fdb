"""``bnrnn figure lengths``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError
from bnrnn.experiments.language.lengths import LENGTHS

SUMMARY = "test bits per character over the length of the sequences"


@dataclass(frozen=True)
class Lengths:
    """Score character models on test pieces of several lengths, and draw that over the paper's Figure 4b."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of character models; each gets its numbers as lengths.json."""
    lengths: tuple[int, ...] = LENGTHS
    """Symbols in a piece."""
    out: Path = Path("lengths.png")
    """PNG or SVG file to write."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""


def run(arguments: list[str]) -> int:
    chosen = parse(Lengths, arguments, "bnrnn figure lengths")
    if not chosen.runs:
        raise UsageError("bnrnn figure lengths needs at least one run folder")
    from bnrnn.experiments.language.lengths import measure
    from bnrnn.figures.files import save
    from bnrnn.report.pictures import lengths_picture
    from bnrnn.report.runs import read_run

    for path in chosen.runs:
        measure(path, chosen.lengths, chosen.device)
    save(lengths_picture([read_run(path) for path in chosen.runs]), chosen.out)
    print(chosen.out)
    return 0
