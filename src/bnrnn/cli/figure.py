"""``bnrnn figure``; each figure is a module of its name in :mod:`bnrnn.cli.figures`, like a command."""

from __future__ import annotations

import importlib
from typing import Any

from bnrnn.cli.usage import choose

SUMMARY = "draw one figure"

FIGURES = (
    "curves",
    "lengths",
    "rows",
    "reading",
    "gradient-flow",
    "tanh-derivative",
    "population-statistics",
    "gamma-sensitivity",
    "h2h",
)


def run(arguments: list[str]) -> int:
    name, rest = choose(
        arguments,
        "bnrnn figure",
        "figure",
        FIGURES,
        lambda name: _module(name).SUMMARY,
        "Draw one figure.",
    )
    return _module(name).run(rest)


def _module(figure: str) -> Any:
    return importlib.import_module(f"bnrnn.cli.figures.{figure.replace('-', '_')}")
