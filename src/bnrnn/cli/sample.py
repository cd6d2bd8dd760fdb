"""``bnrnn sample``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse

SUMMARY = "stream text from a trained language model"


@dataclass(frozen=True)
class Sample:
    """Stream text from a trained language model."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    prompt: str = ""
    """What the model reads first."""
    length: int | None = 1000
    """Characters or words to draw; None for no end."""
    temperature: float = 1.0
    """Below 1: more probable symbols; 0: the most probable one each time."""
    top_k: int | None = None
    """Draw among the so many most probable symbols only."""
    top_p: float | None = None
    """Draw among the most probable symbols that together have this probability only."""
    seed: int = 0
    """The same seed gives the same text."""
    unknown: bool = False
    """Let the symbol for unknown ones be drawn."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """Where to compute."""


def run(arguments: list[str]) -> int:
    chosen = parse(Sample, arguments, "bnrnn sample")
    from bnrnn.experiments.language.sampling import Sampler

    sampler = Sampler(chosen.run, chosen.device)
    symbols = sampler.stream(
        chosen.prompt, chosen.length, chosen.temperature, chosen.seed, chosen.unknown, chosen.top_k, chosen.top_p
    )
    print(chosen.prompt, end=" " if sampler.words and chosen.prompt else "", flush=True)
    for symbol in symbols:
        print(symbol, end="", flush=True)
    print()
    return 0
