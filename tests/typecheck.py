"""The run-time checker of annotations that the import hook of conftest.py applies to the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's annotations, but leave out inner functions, which are defined anew in every call."""
    return function if "<locals>" in function.__qualname__ else _checked(function)
