"""``bnrnn figure``; each figure is a module of its name in :mod:`bnrnn.cli.figures`, like a command."""

from __future__ import annotations

import importlib

from bnrnn.cli.usage import choose

SUMMARY = "draw one figure"

FIGURES = ("curves", "lengths")


def run(arguments: list[str]) -> int:
    name, rest = choose(
        arguments,
        "bnrnn figure",
        "figure",
        FIGURES,
        lambda name: importlib.import_module(f"bnrnn.cli.figures.{name}").SUMMARY,
        "Draw one figure.",
    )
    return importlib.import_module(f"bnrnn.cli.figures.{name}").run(rest)
