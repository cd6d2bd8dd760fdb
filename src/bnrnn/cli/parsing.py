"""Options from a command line, and errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from bnrnn.cli.usage import UsageError

try:
    from tyro._errors import on_parse_error  # before tyro 1.0.15, or where it is moved, tyro's own words are shown
except ImportError:
    on_parse_error = contextlib.nullcontext

T = TypeVar("T")


def parse(
    kind: type[T], arguments: Sequence[str], prog: str, description: str | None = None, source: str | None = None
) -> T:
    """An options object from a command line, by tyro; what is wrong becomes one line.

    Args:
        kind: a dataclass.
        arguments: what was typed.
        prog: the command.
        description: what it does, where that is not the dataclass's docstring.
        source: the file that the arguments come from, if they were not typed.

    Raises:
        UsageError: an option or value that the type does not have.
    """

    def refuse(event: Any) -> None:
        place = f"{source}: " if source else ""
        raise UsageError(f"{place}{_reason(event, _options(kind))}; all options: {prog} --help")

    with on_parse_error(refuse):
        return tyro.cli(kind, args=list(arguments), prog=prog, description=description)


def _reason(event: Any, options: list[str]) -> str:
    """What is wrong, from the event by which tyro tells that it will refuse a command line."""
    name = type(event).__name__
    if name == "UnrecognizedArgs":
        strange = next((token for token in event.tokens if token.startswith("-")), event.tokens[0])
        near = difflib.get_close_matches(strange.replace("_", "-").partition("=")[0], options, 1)
        return f"unrecognized options: {' '.join(event.tokens)}" + (f"; perhaps you meant {near[0]}" if near else "")
    if name == "InvalidChoice":
        choices = ", ".join(map(repr, event.choices))
        return f"{_name(event.argument)} must be one of {choices}, got {event.value!r}"
    if name == "BadValue":
        return f"{_name(event.argument)} needs a value"
    if name == "MissingArgs":
        return f"missing: {', '.join(_name(missing.arg) for missing in event.missing_arguments)}"
    if name == "InstantiationFailure" and event.argument is not None:
        return f"{_name(event.argument)}: {' '.join(event.message.split())}"
    return " ".join(str(getattr(event, "message", name)).split())


def _name(argument: Any) -> str:
    """How an argument is written on a command line."""
    return argument.field.intern_name.upper() if argument.is_positional() else argument.lowered.name_or_flags[0]


def _options(kind: Any) -> list[str]:
    """The options of a dataclass, those of dataclasses within it among them."""
    found: list[str] = []
    for field in dataclasses.fields(kind):
        default = field.default
        if dataclasses.is_dataclass(default):
            found += _options(default)
        else:
            found.append(f"--{field.name.replace('_', '-')}")
    return found


def side_by_side(**parts: Any) -> type[Any]:
    """The options of several objects as those of one command line, each object under its name."""
    fields = [
        (name, tyro.conf.OmitArgPrefixes[type(default)], dataclasses.field(default=default))
        for name, default in parts.items()
    ]
    return dataclasses.make_dataclass("Options", fields)
