"""``bnrnn read``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "answer a question on a passage with a trained reader"


@dataclass(frozen=True)
class Read:
    """Answer a question on a passage, with the candidates' probabilities and the attention over the words."""

    run: tyro.conf.Positional[Path]
    """Run folder of a reading experiment."""
    passage: Path
    """File with the passage; - for standard input. For dialogues and bAbI each line is a sentence."""
    question: str
    """With @placeholder where the answer belongs; for bAbI readers a plain question does as well."""
    entities: tuple[str, ...] = ()
    """Names in the text, each as NAME or NAME=@MARKER. Without them names are guessed from capital letters; a text with
    markers in it, as @entity1, needs none."""
    tokenized: bool | None = None
    """Words are what stands between spaces. By default so if the passage has markers."""
    html: Path | None = None
    """Write a page with the coloured passage as well."""
    candidates: int = 10
    """So many of them are shown."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """Where to compute."""


def run(arguments: list[str]) -> int:
    chosen = parse(Read, arguments, "bnrnn read")
    if chosen.candidates < 1:
        raise UsageError(f"candidates must be at least 1, got {chosen.candidates}")
    passage = _content(chosen.passage)

    from rich.console import Console

    from bnrnn.experiments.reading.reader import Reader
    from bnrnn.report.attention import coloured, page

    reading = Reader(chosen.run, chosen.device).read(passage, chosen.question, chosen.entities, chosen.tokenized)
    console = Console(highlight=False)
    console.print(reading.answer, style="bold", markup=False)
    for name, probability in reading.candidates[: chosen.candidates]:
        console.print(f"{probability:8.4f}  {name}", markup=False)
    if reading.word[0] != reading.answer:
        console.print(f"the most probable of all words: {reading.word[0]}, {reading.word[1]:.4f}", markup=False)
    console.print()
    console.print(coloured(reading.passage, reading.attention))
    if chosen.html is not None:
        chosen.html.parent.mkdir(parents=True, exist_ok=True)
        content = page(reading.question, reading.passage, reading.attention, reading.candidates, reading.word)
        chosen.html.write_text(content, "utf-8")
        console.print(f"page: {chosen.html}", markup=False)
    return 0


def _content(path: Path) -> str:
    import sys

    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; --passage names the file with the passage") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 ({error}); convert it first") from None
