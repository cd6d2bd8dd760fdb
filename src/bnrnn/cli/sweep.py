"""``bnrnn sweep``: an experiment over grids and random draws of its options, and ``bnrnn sweep status``."""

from __future__ import annotations

import dataclasses
import multiprocessing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import tyro

from bnrnn.cli.parsing import parse, side_by_side
from bnrnn.cli.usage import UsageError, choose

if TYPE_CHECKING:
    from bnrnn.training.session import Session

SUMMARY = "run an experiment over grids and random draws of its options, with any number of workers"


@dataclasses.dataclass(frozen=True)
class Workers:
    """Who works on a sweep, and where it is kept."""

    workers: int = 1
    """Processes on this machine. More may join on others by the same command, given the same folder and study."""
    out: Path | None = None
    """Folder of the run folders; by default runs/sweep-EXPERIMENT."""
    study: str | None = None
    """Optuna's storage: a file, or the URL of a database; by default study.log in the sweep's folder."""
    silence: float = 60.0
    """Seconds without a sign of life after which a worker's trial is taken over by another."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if not self.silence > 0:
            raise ValueError(f"silence must be greater than 0, got {self.silence}")


@dataclasses.dataclass(frozen=True)
class Variation:
    """What a sweep varies."""

    grid: tuple[str, ...] = ()
    """Options with their values, as gamma=.1,.3,.5: every combination is a trial."""
    seeds: str | None = None
    """Seeds for each, as 1-3 or 1,2,5."""
    random: int | None = None
    """Random draws from --space, each combined with every point of the grid."""
    space: tuple[str, ...] = ()
    """What is drawn: NAME=log:LOW:HIGH, NAME=uniform:LOW:HIGH or NAME=VALUE,VALUE,..."""
    draw_seed: int = 1
    """Seed of the draws."""


@dataclasses.dataclass(frozen=True)
class Status:
    """Show what of a sweep has run, runs and waits, and draw its outcome over each varied option."""

    out: tyro.conf.Positional[Path]
    """The sweep's folder."""
    study: str | None = None
    """Optuna's storage where it is not study.log in that folder."""
    plot: Path | None = None
    """PNG or SVG file for the outcome over each varied option; its numbers go beside it as CSV."""
    silence: float = 60.0
    """Seconds without a sign of life after which a worker counts as gone."""


def run(arguments: list[str]) -> int:
    if arguments[:1] == ["status"]:
        return _status(arguments[1:])
    from bnrnn.experiments.registry import EXPERIMENTS
    from bnrnn.experiments.sweeps import combine, draws, grid
    from bnrnn.training.session import Session

    name, rest = choose(
        arguments,
        "bnrnn sweep",
        "experiment",
        list(EXPERIMENTS),
        lambda name: EXPERIMENTS[name].summary,
        "Run an experiment over grids and random draws of its options; `bnrnn sweep status FOLDER` shows a sweep.",
    )
    experiment = EXPERIMENTS[name]
    parts = {"variation": Variation(), "workers": Workers(), "session": Session(), "config": experiment.config}
    about = f"Trials of {name}: {experiment.summary}. All options of bnrnn run {name} hold for every trial."
    chosen = parse(side_by_side(**parts), rest, f"bnrnn sweep {name}", about)
    vary: Variation = chosen.variation
    if not (vary.grid or vary.seeds or vary.random is not None):
        raise UsageError(f"say what to vary: --grid, --seeds or --random; see bnrnn sweep {name} --help")
    points = grid(vary.grid, vary.seeds)
    drawn = draws(vary.random, vary.space, vary.draw_seed) if vary.random is not None else [{}]
    if vary.space and vary.random is None:
        raise UsageError("--space says what --random N draws; give both")
    return carry_out(name, chosen.config, chosen.session, chosen.workers, combine(drawn, points))


def carry_out(name: str, config: Any, session: Session, workers: Workers, options: list[dict[str, str]]) -> int:
    """Begins or joins a sweep and works on it until every trial has an outcome."""
    from bnrnn.experiments.registry import EXPERIMENTS
    from bnrnn.experiments.sweeps import Plan, folder_name, open_study, outcomes

    for trial in options:  # what no trial can be is said before any work
        typed(config, trial)
    judgement = EXPERIMENTS[name].judgement
    kept = ("max_updates", "precision", "matmul")
    fixed = {**dataclasses.asdict(config), **{key: getattr(session, key) for key in kept}}
    plan = Plan(name, tuple(options), fixed, judgement.headline, judgement.better)
    folder = workers.out or Path("runs") / f"sweep-{name}"
    if session.dry_run:
        print(*(folder / folder_name(trial) for trial in options), sep="\n")
        print(f"{len(options)} trials; nothing was trained or written")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    where = workers.study or str(folder / "study.log")
    study, _ = open_study(where, folder.name, plan)
    given = (name, config, session, folder, where, workers.silence)
    if workers.workers == 1:
        _work(*given)
    else:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_work, args=given) for _ in range(workers.workers)]
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join()
        except KeyboardInterrupt:  # the terminal has told the workers too, and each saves its run
            for process in processes:
                process.join()
            raise
    found = outcomes(study, workers.silence)
    print_outcomes(found, judgement.headline)
    return 0 if all(outcome.state in ("complete", "diverged") for outcome in found) else 1


def _work(name: str, config: Any, session: Session, folder: Path, where: str, silence: float) -> None:
    """One worker, which may be a process of its own."""
    from bnrnn.experiments.registry import EXPERIMENTS, build_task
    from bnrnn.experiments.sweeps import open_study, work
    from bnrnn.training import InterruptionError, RunFolder
    from bnrnn.training.session import run as train

    experiment = EXPERIMENTS[name]
    study, plan = open_study(where, folder.name, None)

    def execute(options: dict[str, str], path: Path) -> dict[str, Any]:
        own = typed(config, options)
        told = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
        return train(
            experiment.describe(own),
            partial(build_task, name, own),
            dataclasses.replace(session, run_dir=path, resume=True, quiet=True),
            RunFolder(path),
            f"bnrnn sweep {name}: bnrnn run {name} {told}",
        )

    try:
        work(study, plan, execute, folder, lambda line: print(line, flush=True), silence)
    except InterruptionError:
        raise KeyboardInterrupt from None


def typed(config: Any, options: dict[str, str]) -> Any:
    """A config with some options from their words on a command line.

    Raises:
        UsageError: there is no such option, or it does not take such a value.
        ValueError: the config refuses the values.
    """
    hints = get_type_hints(type(config))
    names = {field.name for field in dataclasses.fields(config)}
    values = {}
    for name, word in options.items():
        if name not in names:
            raise UsageError(f"there is no option {name} to vary; there are {', '.join(sorted(names))}")
        one = dataclasses.make_dataclass("One", [(name, hints[name])])
        values[name] = getattr(parse(one, [f"--{name.replace('_', '-')}", word], "bnrnn sweep"), name)
    return dataclasses.replace(config, **values)


def _status(arguments: list[str]) -> int:
    chosen = parse(Status, arguments, "bnrnn sweep status")
    from bnrnn.experiments.sweeps import open_study, outcomes
    from bnrnn.figures.files import write_figure
    from bnrnn.figures.sweep import sweep_figure

    where = chosen.study or str(chosen.out / "study.log")
    if "://" not in where and not Path(where).exists():
        raise UsageError(f"{where} is no study; name a sweep's folder, and its storage with --study")
    study, plan = open_study(where, chosen.out.name, None)
    found = outcomes(study, chosen.silence)
    print_outcomes(found, plan.metric)
    if chosen.plot is not None:
        names = [name for name in plan.options[0] if len({options[name] for options in plan.options}) > 1]
        points = [(outcome.options, outcome.value, outcome.state) for outcome in found]
        rows = [[*(o.options[name] for name in names), o.state, o.value] for o in found]
        figure = sweep_figure(points, names, f"{plan.experiment}: validation {plan.metric}")
        write_figure(chosen.plot, figure, [*names, "state", plan.metric], rows)
        print(chosen.plot)
    return 0


def print_outcomes(found: list[Any], metric: str) -> None:
    """A line for each trial, and how many there are of each state."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column, justify in (("trial", "left"), ("state", "left"), (metric, "right")):
        table.add_column(column, justify=justify)  # pyright: ignore[reportArgumentType]
    for outcome in found:
        value = "" if outcome.value is None else f"{outcome.value:.4f}"
        table.add_row(outcome.folder, outcome.state, value)
        if outcome.message:
            table.add_row(f"  {outcome.message}", "", "")
    Console().print(table)
    states = [outcome.state for outcome in found]
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no trials")
