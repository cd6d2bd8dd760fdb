"""A run's options as TOML, for people to keep and to change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bnrnn.training.checkpoint import RunError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def to_toml(config: dict[str, Any]) -> str:
    """The options of a ``config.json``, with the number formats; None is written "None", which TOML does not have."""
    options = {"experiment": config["experiment"], **config["config"]}
    options |= {name: config[name] for name in ("precision", "matmul") if name in config}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in options.items())


def from_toml(path: Path) -> dict[str, Any]:
    """The options in a TOML file.

    Raises:
        RunError: it cannot be read, is no TOML, or holds tables.
    """
    try:
        options = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path} ({error.strerror or error})") from error
    except ValueError as error:  # of TOML and of Unicode
        raise RunError(f"{path} is no TOML file ({error})") from error
    for name, value in options.items():
        if isinstance(value, dict):
            raise RunError(f"{path} holds a table, {name}; options stand outside of tables, as units = 100")
    return options


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
