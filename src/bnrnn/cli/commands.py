"""The commands of ``bnrnn``, each a function of its arguments that returns the exit code.

What a command needs beyond the standard library is imported when it runs, so that ``bnrnn list`` stays quick.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from bnrnn.cli.parsing import UsageError, parse

Command = Callable[[list[str]], int]


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
        print(table({name: experiment.summary for name, experiment in EXPERIMENTS.items()}))
        print("\nEach has its own options: bnrnn run EXPERIMENT --help.")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2

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


def _evaluate(arguments: list[str]) -> int:
    from bnrnn.experiments.registry import find
    from bnrnn.training import RunFolder
    from bnrnn.training.session import evaluate_run

    @dataclasses.dataclass(frozen=True)
    class Evaluate:
        """Evaluate a run's model with batch and with population statistics, on the validation and the test part."""

        run: tyro.conf.Positional[Path]
        """Run folder."""
        model: Literal["best", "last"] = "best"
        """The selected model, or the one the run has come to."""
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
        """Where to compute."""

    chosen = parse(Evaluate, arguments, "bnrnn evaluate")
    folder = RunFolder(chosen.run)
    described = folder.read_config()
    experiment = find(described["experiment"])
    config = experiment.restore(described)
    record = evaluate_run(lambda: experiment.build(config), folder, described["precision"], chosen.model, chosen.device)
    title = f"{experiment.name} {experiment.label(config)}: {chosen.model} model, of update {record['update']:,}"
    _print_evaluation(title, record["evaluation"])
    return 0


def _report(arguments: list[str]) -> int:
    from bnrnn.report.page import write_report
    from bnrnn.report.runs import find_runs, read_run

    @dataclasses.dataclass(frozen=True)
    class Report:
        """Write a page with curves over the paper's own, tables and settings of runs."""

        runs: tyro.conf.Positional[tuple[Path, ...]] = ()
        """Run folders; by default all below runs/ and records/."""
        out: Path = Path("report")
        """Folder for the page and its pictures."""

    chosen = parse(Report, arguments, "bnrnn report")
    runs = [read_run(path) for path in chosen.runs] if chosen.runs else find_runs()
    page = write_report(runs, chosen.out, f"bnrnn report {shlex.join(arguments)}".rstrip())
    _print_summary(runs)
    print(f"report: {page}")
    return 0


def _data(arguments: list[str]) -> int:
    from bnrnn.data import registry

    actions = {"list": registry.status, "get": registry.get, "verify": registry.verify}

    @dataclasses.dataclass(frozen=True)
    class Data:
        """Show, download or verify the experiments' data files. BNRNN_DATA names a folder that has them already."""

        action: tyro.conf.Positional[Literal["list", "get", "verify"]]
        """Show what is at hand; download what has a public address; read every file and compare its SHA-256."""
        dataset: tyro.conf.Positional[str | None] = None
        """One data set, as mnist; by default all."""

    chosen = parse(Data, arguments, "bnrnn data")
    rows = actions[chosen.action](chosen.dataset)
    for row in rows:
        print(f"{row.state:<9} {row.file.name:<36} {row.file.size:>11,} bytes  {row.file.licence}")
        print(f"{'':<10}{row.detail}")
    damaged = [row.file.name for row in rows if row.state == "damaged"]
    if damaged:
        raise UsageError(f"damaged: {', '.join(damaged)}; delete each and run bnrnn data get, or put a good copy there")
    return 0


def _figure(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        print("usage: bnrnn figure NAME [options]\n\nDraw one figure.\n\nfigures:")
        print(table({name: text for name, (text, _) in FIGURES.items()}))
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    if arguments[0] not in FIGURES:
        raise UsageError(f"unknown figure {arguments[0]!r}; there are {', '.join(FIGURES)}")
    return FIGURES[arguments[0]][1](arguments[1:])


def _figure_curves(arguments: list[str]) -> int:
    from bnrnn.report.page import curve_figure
    from bnrnn.report.runs import read_run

    @dataclasses.dataclass(frozen=True)
    class Curves:
        """Draw the validation curves of runs of one experiment over the paper's own."""

        runs: tyro.conf.Positional[tuple[Path, ...]]
        """Run folders of one experiment."""
        out: Path = Path("curves.png")
        """PNG file to write."""

    chosen = parse(Curves, arguments, "bnrnn figure curves")
    runs = [read_run(path) for path in chosen.runs]
    experiments = sorted({run.experiment for run in runs})
    if len(experiments) != 1:
        got = ", ".join(experiments) or "none"
        raise UsageError(f"name run folders of one experiment, got {got}; see bnrnn figure curves --help")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_bytes(curve_figure(runs))
    print(chosen.out)
    return 0


def _print_summary(runs: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from bnrnn.report.page import summary_table

    head, rows = summary_table(runs)
    # a terminal has no room for all of the overview's columns, nor for their full names
    shown = {
        "updates": "updates",
        "validation": "validation",
        "paper there": "paper",
        "difference": "difference",
        "test (population)": "test",
        "paper's test": "paper",
    }
    table = Table(
        box=None,
        pad_edge=False,
        caption="validation: batch statistics, at our last update (words: the selected model's); "
        "test: population statistics, selected model",
        caption_justify="left",
    )
    table.add_column("run", no_wrap=True)
    for name in shown.values():
        table.add_column(name, justify="right")
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        table.add_row(cells["run"].replace(" ", "\n", 1), *(cells[name] for name in shown))
    Console().print(table)


def _print_result(name: str, label: str, path: Path, result: dict[str, Any]) -> None:
    done = f"{result['updates']:,} of {result['planned_updates']:,} updates"
    title = f"{name} {label}: {done}, model of update {result['selected']['update']:,}"
    _print_evaluation(title, result["evaluation"])
    print(f"run folder: {path}")


def _print_evaluation(title: str, evaluation: dict[str, dict[str, dict[str, float]]]) -> None:
    """Every metric of every part, with batch and with population statistics."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    columns = [(split, kind) for split, kinds in evaluation.items() for kind in kinds]
    for split, kind in columns:
        table.add_column(f"{split}\n{kind} statistics", justify="right")
    metrics = dict.fromkeys(metric for split, kind in columns for metric in evaluation[split][kind])
    for metric in metrics:
        found = (evaluation[split][kind].get(metric) for split, kind in columns)
        table.add_row(metric, *("" if value is None else f"{value:.4f}" for value in found))
    Console().print(table)


def table(rows: dict[str, str]) -> str:
    """Names and what they stand for, in two columns."""
    width = max(map(len, rows)) + 3
    return "\n".join(f"  {name:<{width}}{text}" for name, text in rows.items())


def _figure_lengths(arguments: list[str]) -> int:
    from bnrnn.experiments.lengths import LENGTHS, measure
    from bnrnn.figures.curves import png
    from bnrnn.figures.lengths import lengths_figure

    @dataclasses.dataclass(frozen=True)
    class Lengths:
        """Score character models on test pieces of several lengths, and draw that over the paper's Figure 4b."""

        runs: tyro.conf.Positional[tuple[Path, ...]]
        """Run folders of character models; each gets its numbers as lengths.json."""
        lengths: tuple[int, ...] = LENGTHS
        """Symbols in a piece."""
        out: Path = Path("lengths.png")
        """PNG file to write."""
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
        """Where to compute."""

    chosen = parse(Lengths, arguments, "bnrnn figure lengths")
    if not chosen.runs:
        raise UsageError("bnrnn figure lengths needs at least one run folder")
    records = [(path.name, measure(path, chosen.lengths, chosen.device)) for path in chosen.runs]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_bytes(png(lengths_figure(records)))
    print(chosen.out)
    return 0


def _sample(arguments: list[str]) -> int:
    from bnrnn.experiments.sampling import Sampler

    @dataclasses.dataclass(frozen=True)
    class Sample:
        """Stream text from a trained language model."""

        run: tyro.conf.Positional[Path]
        """Run folder."""
        prompt: str = ""
        """What the model reads first."""
        length: int | None = 1000
        """Characters or words to draw; None for no end."""
        temperature: float = 1.0
        """Below 1: more probable symbols; 0: the most probable one each time."""
        seed: int = 0
        """The same seed gives the same text."""
        unknown: bool = False
        """Let the symbol for unknown ones be drawn."""
        device: Literal["cpu", "cuda", "mps"] = "cpu"
        """Where to compute."""

    chosen = parse(Sample, arguments, "bnrnn sample")
    sampler = Sampler(chosen.run, chosen.device)
    symbols = sampler.stream(chosen.prompt, chosen.length, chosen.temperature, chosen.seed, chosen.unknown)
    print(chosen.prompt, end=" " if sampler.words and chosen.prompt else "", flush=True)
    for symbol in symbols:
        print(symbol, end="", flush=True)
    print()
    return 0


COMMANDS: dict[str, tuple[str, Command]] = {
    "list": ("show every experiment and the results that exist", _list),
    "run": ("train an experiment's model", _run),
    "evaluate": ("evaluate a run's model with batch and population statistics", _evaluate),
    "report": ("write tables, curves and one HTML page from run folders", _report),
    "figure": ("draw one figure", _figure),
    "sample": ("stream text from a trained language model", _sample),
    "data": ("list, download or verify the data files", _data),
}
FIGURES: dict[str, tuple[str, Command]] = {
    "curves": ("validation curves of runs over the paper's own", _figure_curves),
    "lengths": ("test bits per character over the length of the sequences", _figure_lengths),
}
