"""``bnrnn run``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import choose

SUMMARY = "train an experiment's model"


def run(arguments: list[str]) -> int:
    from bnrnn.experiments.registry import EXPERIMENTS

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
    chosen = parse(_options(experiment.config), rest, prog, description)
    label = experiment.label(chosen.config)
    folder = RunFolder(chosen.session.run_dir or Path("runs") / f"{name}-{label}")
    command = f"bnrnn run {shlex.join(arguments)}"
    try:
        result = session.run(
            experiment.describe(chosen.config),
            lambda: experiment.build(chosen.config),
            chosen.session,
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
    done = f"{result['updates']:,} of {result['planned_updates']:,} updates"
    title = f"{name} {label}: {done}, model of update {result['selected']['update']:,}"
    print_evaluation(title, result["evaluation"])
    print(f"run folder: {folder.path}")
    return 0


def _options(config: Any) -> type[Any]:
    """How to compute and the experiment's own options, side by side."""
    from bnrnn.training.session import Session

    parts = {"session": Session(), "config": config}
    return dataclasses.make_dataclass(
        "Options",
        [
            (name, tyro.conf.OmitArgPrefixes[type(default)], dataclasses.field(default=default))
            for name, default in parts.items()
        ],
    )
