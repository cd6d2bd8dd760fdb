"""``bnrnn run``."""

from __future__ import annotations

import itertools
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bnrnn.cli.parsing import parse, side_by_side
from bnrnn.cli.usage import UsageError, choose

SUMMARY = "train an experiment's model"


def run(arguments: list[str]) -> int:
    from bnrnn.experiments.registry import EXPERIMENTS, build_task

    name, rest = choose(
        arguments,
        "bnrnn run",
        "experiment",
        list(EXPERIMENTS),
        lambda name: EXPERIMENTS[name].summary,
        "Train an experiment's model.",
    )
    from bnrnn.cli.output import print_evaluation
    from bnrnn.training import DivergenceError, InterruptionError, RunFolder, session

    experiment = EXPERIMENTS[name]
    prog = f"bnrnn run {name}"
    description = f"{experiment.summary}. {experiment.paper}: {experiment.target}. Cost: {experiment.cost}."
    options = side_by_side(session=session.Session(), config=experiment.config)
    if (file := _config_file(rest)) is not None:
        held = parse(options, _arguments(file, name), prog, source=str(file))
        options = side_by_side(session=held.session, config=held.config)
    chosen = parse(options, rest, prog, description)
    label = experiment.label(chosen.config)
    folder = RunFolder(chosen.session.run_dir or Path("runs") / f"{name}-{label}")
    described, command = experiment.describe(chosen.config), f"bnrnn run {shlex.join(arguments)}"

    build = partial(build_task, name, chosen.config)

    def upgrade(held: dict[str, Any]) -> dict[str, Any]:
        return {**held, **experiment.describe(experiment.restore(held))}

    if chosen.session.dry_run:
        for fact, value in session.rehearse(described, build, chosen.session, folder, upgrade).items():
            print(f"{fact + ':':<28}{value}")
        return 0
    try:
        result = session.run(described, build, chosen.session, folder, command, upgrade)
    except InterruptionError as stop:
        again = command if "--resume" in arguments else f"{command} --resume"
        print(f"{stop}; to go on: {again}")
        return 130
    except DivergenceError as error:
        print(f"bnrnn: {error}. The last good checkpoint is kept in {folder.path}", file=sys.stderr)
        return 1
    done = f"{result['updates']:,} of {result['planned_updates']:,} updates"
    early = ", stopped early" if result["stopped_early"] else ""
    title = f"{name} {label}: {done}{early}, model of update {result['selected']['update']:,}"
    print_evaluation(title, result["evaluation"])
    print(f"run folder: {folder.path}")
    return 0


def _config_file(arguments: list[str]) -> Path | None:
    """What ``--config`` names; None without, or where what follows is for the parser to refuse."""
    for option, value in itertools.pairwise([*arguments, ""]):
        if option.startswith("--config="):
            return Path(option.partition("=")[2])
        if option == "--config" and value:
            return Path(value)
    return None


def _arguments(file: Path, experiment: str) -> list[str]:
    """The options of a TOML file as they would stand on the command line."""
    from bnrnn.training.settings import from_toml

    found = from_toml(file)
    named = found.pop("experiment", experiment)
    if named != experiment:
        raise UsageError(f"{file} has the options of experiment {named}, not {experiment}")
    arguments = []
    for name, value in found.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            arguments += [f"--{option}", *map(str, value)]
        else:
            arguments.append(f"--{option}={value}")
    return arguments
