"""The command ``bnrnn``."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence

USAGE = """\
usage: bnrnn COMMAND [options]

Batch-normalized recurrent networks: the experiments of Laurent et al. 2015 and Cooijmans et al. 2017.

commands:
{commands}

Each command explains itself: bnrnn COMMAND --help.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Carries out a command line. Leaves with code 2 and one line where it, or what it names, is at fault.

    With ``BNRNN_TRACEBACK`` set in the environment such an error shows where it was raised.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_dispatch(arguments))
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        _fail(f"the package {error.name} is missing; the commands need pip install 'bnrnn[experiments]'", error)
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()), error)


def _fail(message: str, error: Exception) -> None:
    if os.environ.get("BNRNN_TRACEBACK"):
        raise error
    print(f"bnrnn: {message}", file=sys.stderr)
    sys.exit(2)


def _dispatch(arguments: list[str]) -> int:
    from bnrnn.cli.commands import COMMANDS, table
    from bnrnn.cli.parsing import UsageError

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands=table({name: text for name, (text, _) in COMMANDS.items()})), end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"bnrnn {importlib.metadata.version('bnrnn')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}; there are {', '.join(COMMANDS)}")
    return COMMANDS[name][1](rest)
