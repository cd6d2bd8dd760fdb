"""``bnrnn data prepare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bnrnn.cli.parsing import parse


@dataclass(frozen=True)
class Prepare:
    """Read a corpus once, into a memory-mapped cache; it is made anew where the corpus or the settings have changed."""

    dataset: tyro.conf.Positional[Literal["cnn"]]
    """Which corpus."""
    source: Annotated[Path, tyro.conf.arg(name="from")]
    """The archive cnn.tgz, or the unpacked folder questions with training, validation and test in it."""
    strict: bool = False
    """Make an error of the first file that would be left out."""


def run(arguments: list[str]) -> int:
    chosen = parse(Prepare, arguments, "bnrnn data prepare")
    from rich.console import Console
    from rich.progress import Progress

    from bnrnn.data import cnn

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        found = cnn.prepare(
            chosen.source, chosen.strict, lambda done, total: bar.update(task, completed=done, total=total)
        )
    print(f"{found.path}: {'prepared' if found.fresh else 'is current, nothing to do'}")
    for part, count in found.questions.items():
        share = found.answerable[part]
        print(f"{part:<6} {count:>9,} questions; four sentences name the answer of {share:.1%}")
    print(f"{found.vocabulary:,} words")
    for title, facts in (("left out", found.left_out), ("kept", found.noted)):
        for reason, (count, first) in facts.items():
            print(f"{title}: {count:,} x {reason}; the first: {first}")
    return 0
