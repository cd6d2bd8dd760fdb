"""The command ``bnrnn``."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

USAGE = """\
usage: bnrnn COMMAND [options]

Batch-normalized recurrent networks: the experiments of Laurent et al. 2015 and Cooijmans et al. 2017.

commands:
{commands}

Each command explains itself: bnrnn COMMAND --help.
"""


class UsageError(ValueError):
    """The command line is not one that can be carried out; the message says what would be."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Carries out a command line. Leaves with code 2 and one line where it, or what it names, is at fault."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_dispatch(arguments))
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("BNRNN_TRACEBACK"):
            raise
        print(f"bnrnn: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands=_table({name: text for name, (text, _) in COMMANDS.items()})), end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        import importlib.metadata

        print(f"bnrnn {importlib.metadata.version('bnrnn')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}; there are {', '.join(COMMANDS)}")
    return COMMANDS[name][1](rest)


def _list(arguments: list[str]) -> int:
    @dataclasses.dataclass(frozen=True)
    class List:
        """Show every experiment: where it comes from, its data, its cost, and the results that exist."""

    parse(List, arguments, "bnrnn list")
    from bnrnn.experiments.registry import EXPERIMENTS
    from bnrnn.report.runs import find_runs

    results: dict[str, list[str]] = {name: [] for name in EXPERIMENTS}
    for run in find_runs():
        results.setdefault(run.experiment, []).append(run.brief())
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name:<18}{experiment.summary}")
        print(f"{'':<18}{experiment.paper}: {experiment.target}")
        print(f"{'':<18}data: {experiment.data}; cost: {experiment.cost}")
        found = results[experiment.name]
        print(f"{'':<18}results: {found[0] if found else 'none yet'}")
        for line in found[1:]:
            print(f"{'':<27}{line}")
    return 0


def _run(arguments: list[str]) -> int:
    from bnrnn.experiments.registry import EXPERIMENTS, find

    if not arguments or arguments[0].startswith("-"):
        print("usage: bnrnn run EXPERIMENT [options]\n\nTrain an experiment's model.\n\nexperiments:")
        print(_table({name: experiment.summary for name, experiment in EXPERIMENTS.items()}))
        print("\nEach has its own options: bnrnn run EXPERIMENT --help.")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2

    import tyro

    from bnrnn.training import DivergenceError, InterruptionError, RunFolder
    from bnrnn.training.session import Session, run

    experiment = find(arguments[0])
    options = dataclasses.make_dataclass(
        "Options",
        [
            ("session", tyro.conf.OmitArgPrefixes[Session], dataclasses.field(default=Session())),
            (
                "config",
                tyro.conf.OmitArgPrefixes[type(experiment.config)],
                dataclasses.field(default=experiment.config),
            ),
        ],
    )
    prog = f"bnrnn run {experiment.name}"
    description = f"{experiment.summary}. {experiment.paper}: {experiment.target}. Cost: {experiment.cost}."
    chosen = parse(options, arguments[1:], prog, description)
    session: Session = chosen.session
    label = experiment.label(chosen.config)
    folder = RunFolder(session.run_dir or Path("runs") / f"{experiment.name}-{label}")
    command = f"bnrnn run {shlex.join(arguments)}"
    try:
        result = run(
            experiment.describe(chosen.config),
            lambda: experiment.build(chosen.config),
            session,
            folder,
            command,
        )
    except InterruptionError as stop:
        again = command if "--resume" in arguments else f"{command} --resume"
        print(f"{stop}; to go on: {again}")
        return 130
    except DivergenceError as error:
        print(f"bnrnn: {error}. The last good checkpoint is kept in {folder.path}", file=sys.stderr)
        return 1
    _print_result(experiment.name, label, folder.path, result)
    return 0


def _print_result(name: str, label: str, path: Path, result: dict[str, Any]) -> None:
    from rich.console import Console

    from bnrnn.report.tables import evaluation_table

    console = Console()
    done = f"{result['updates']:,} of {result['planned_updates']:,} updates"
    title = f"{name} {label}: {done}, model of update {result['selected']['update']:,}"
    console.print(evaluation_table(title, result["evaluation"]))
    console.print(f"run folder {path}", highlight=False, soft_wrap=True)


def parse(kind: type[T], arguments: Sequence[str], prog: str, description: str | None = None) -> T:
    """An options object from a command line, by tyro; what is wrong becomes one line.

    Raises:
        UsageError: an option or value that the type does not have.
    """
    import tyro

    problem = io.StringIO()
    try:
        with contextlib.redirect_stderr(problem):
            return tyro.cli(kind, args=list(arguments), prog=prog, description=description)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(problem.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """The message inside tyro's box: what is wrong, and the option that may have been meant."""
    lines = [line.strip("│ ") for line in box.splitlines() if line.startswith("│")]
    rules = [index for index, line in enumerate(lines) if line.startswith("──")]
    message = " ".join(lines[: rules[0]] if rules else lines)
    hint = next((lines[i + 1] for i, line in enumerate(lines) if line.startswith("Perhaps you meant")), None)
    meant = f"; perhaps you meant {hint.split()[0]}" if hint else ""
    return f"{message.strip().rstrip('.')}{meant}; all options: {prog} --help"


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows)) + 3
    return "\n".join(f"  {name:<{width}}{text}" for name, text in rows.items())


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "list": ("show every experiment and the results that exist", _list),
    "run": ("train an experiment's model", _run),
}
