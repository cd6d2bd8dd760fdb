"""The overview for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from bnrnn.report.groups import group
from bnrnn.report.runs import Run
from bnrnn.report.tables import difference, number, sampled, summarize

_COLUMNS = (("updates", 16), ("validation", 17), ("paper", 9), ("test", 17), ("paper", 9))
_INDENT = 4


def summary_text(runs: Iterable[Run], width: int = 80) -> str:
    """The overview as lines of at most ``width`` characters: a run's name, its numbers below it, the difference to the
    paper below those.

    Args:
        runs: what to tell of.
        width: of the terminal; 80 is the least that the numbers need.
    """
    width = max(width, 80)
    lines: list[str] = []
    metric = None
    for found in group(runs):
        summary = summarize(found)
        heading = f"{found.subject}: {summary.metric}, {found.facts.better} is better"
        if heading != metric:
            metric = heading
            lines += ["", *textwrap.wrap(heading, width), _cells([name for name, _ in _COLUMNS])]
        lines += textwrap.wrap(found.label, width - 2, initial_indent="  ", subsequent_indent="    ")
        latest, test = summary.validation, summary.tests.get("population") or summary.tests.get("batch")
        lines.append(
            _cells(
                [
                    found.length.replace(" (partial)", "").replace(" of ", "/"),
                    sampled(latest and latest.ours),
                    number(latest and latest.paper),
                    sampled(test and test.ours),
                    number(test and test.paper),
                ]
            )
        )
        if latest is not None and latest.paper is not None:
            lines += _wrapped(f"validation: {difference(latest)}", width)
        if test is not None and test.metric != found.facts.headline:
            lines += _wrapped(f"test: {test.what}", width)
    lines += ["", *textwrap.wrap(_LEGEND, width)]
    return "\n".join(lines).lstrip("\n")


_LEGEND = (
    "Validation is that of our last update beside the paper's at the same update, or the selected model's where the "
    "paper has no curve; test is the selected model's with population statistics beside the paper's at full length."
)


def _cells(cells: list[str]) -> str:
    told = "  ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return (" " * _INDENT + told).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=" " * _INDENT, subsequent_indent=" " * (_INDENT + 2))
