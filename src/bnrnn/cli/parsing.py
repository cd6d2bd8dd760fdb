"""Options from a command line, and errors in one line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro

T = TypeVar("T")


class UsageError(ValueError):
    """The command line is not one that can be carried out; the message says what would be."""


def parse(kind: type[T], arguments: Sequence[str], prog: str, description: str | None = None) -> T:
    """An options object from a command line, by tyro; what is wrong becomes one line.

    Raises:
        UsageError: an option or value that the type does not have.
    """
    problem = io.StringIO()
    try:
        with contextlib.redirect_stderr(problem):
            return tyro.cli(kind, args=list(arguments), prog=prog, description=description)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(problem.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """The message inside tyro's box: what is wrong, and the option that may have been meant.

    The box has a title, the message, a rule and hints. Where the output is not UTF-8 it is drawn without sides, and a
    rule below the title takes the place of its upper edge.
    """
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    rules = [index for index, line in enumerate(lines) if line and not line.strip("─-")]
    start = 0 if "╭" in box else rules.pop(0) + 1
    message = " ".join(lines[start : rules[0] if rules else None])
    hint = next((lines[i + 1] for i, line in enumerate(lines) if line.startswith("Perhaps you meant")), None)
    meant = f"; perhaps you meant {hint.split()[0]}" if hint else ""
    return f"{message.strip().rstrip('.')}{meant}; all options: {prog} --help"
