"""The command ``bnrnn``. Each command is a module here: ``SUMMARY``, one line, and ``run(arguments)``, the exit code.

What a command needs beyond its options it imports when it runs.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

import bnrnn
from bnrnn.cli.usage import choose

# command: module of this package
COMMANDS = {
    "list": "listing",
    "run": "run",
    "sweep": "sweep",
    "search": "search",
    "reproduce": "reproduce",
    "evaluate": "evaluate",
    "report": "report",
    "record": "record",
    "export": "export",
    "figure": "figure",
    "sample": "sample",
    "read": "read",
    "data": "data",
    "posteriors": "posteriors",
}

# package: the extra that brings it, where that is not the commands' own
EXTRAS = {
    "huggingface_hub": "hub",
    "kaldi_native_fbank": "speech",
    "kaldiio": "speech",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Carries out a command line. Leaves with code 2 and one line where it, or what it names, is at fault, with code 70
    and one line that names a file with the traceback where the program is.

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
        extra = EXTRAS.get(error.name or "", "experiments")
        _fail(f"the package {error.name} is missing; this needs pip install 'bnrnn[{extra}]'", error)
    except (ValueError, OSError) as error:
        _fail(str(error), error)
    except Exception as error:
        if _lacks_memory(error):
            _fail(f"not enough memory: {error}", error)
        kind = type(error).__name__
        _fail(f"an error that should not be: {kind}: {error}; its traceback is in {_keep_traceback()}", error, 70)


def _fail(message: str, error: Exception, code: int = 2) -> None:
    if os.environ.get("BNRNN_TRACEBACK"):
        raise error
    print(f"bnrnn: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _lacks_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch tells of one on the CPU by its words alone."""
    words = ("allocate memory", "out of memory", "not enough memory", "size calculation overflowed")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def _keep_traceback() -> str:
    """A new file with the traceback of the error at hand."""
    with tempfile.NamedTemporaryFile("w", prefix="bnrnn-", suffix=".txt", delete=False) as file:
        file.write(f"bnrnn {bnrnn.__version__}: {shlex.join(sys.argv)}\n\n{traceback.format_exc()}")
    return file.name


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        print(f"bnrnn {bnrnn.__version__}")
        return 0
    if arguments[:1] == ["help"]:
        arguments = ["--help"]
    name, rest = choose(
        arguments,
        "bnrnn",
        "command",
        [*COMMANDS],
        lambda name: _module(name).SUMMARY,
        "Batch-normalized recurrent networks: the experiments of Laurent et al. 2015 and Cooijmans et al. 2017.",
    )
    return _module(name).run(rest)


def _module(command: str) -> Any:
    return importlib.import_module(f"bnrnn.cli.{COMMANDS[command]}")
