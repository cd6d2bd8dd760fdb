"""What a command line is told where it names one of several things: commands, experiments, figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


class UsageError(ValueError):
    """The command line is not one that can be carried out; the message says what would be."""


def choose(
    arguments: Sequence[str], prog: str, kind: str, names: Sequence[str], summary: Callable[[str], str], about: str
) -> tuple[str, list[str]]:
    """The name that a command line starts with, and what follows it.

    Where it asks for help, or names nothing, all names are shown with their summaries and the program ends: with code
    0 or 2.

    Args:
        arguments: the command line.
        prog: what has been typed so far.
        kind: what is named, in the singular.
        names: what there is.
        summary: one line on a name.
        about: what ``prog`` does.

    Raises:
        UsageError: there is no such name.
    """
    if not arguments or arguments[0].startswith("-"):
        width = max(map(len, names)) + 3
        lines = [f"  {name:<{width}}{summary(name)}" for name in names]  # which may fail, before anything is shown
        print(f"usage: {prog} {kind.upper()} [options]\n\n{about}\n\n{kind}s:", *lines, sep="\n")
        print(f"\nEach has its own options: {prog} {kind.upper()} --help.")
        sys.exit(0 if arguments and arguments[0] in ("-h", "--help") else 2)
    name, *rest = arguments
    if name not in names:
        raise UsageError(f"unknown {kind} {name!r}; there are {', '.join(names)}")
    return name, rest
