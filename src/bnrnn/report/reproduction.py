"""What it takes to reproduce both papers, and how far a budget of time goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bnrnn.report.runs import Run

RUNS, FIGURES = Path("runs"), Path("records/figures")


@dataclass(frozen=True)
class Item:
    """A run or a figure that a table or a figure of the papers needs.

    Args:
        name: what ``--only`` calls it.
        target: the table or figure.
        arguments: the command line after ``bnrnn``.
        updates: full length of a run; 0 for a figure.
        pace: seconds an update, or of a whole figure, on 2 cores, where no record tells.
        needs: names of the items that a figure draws.
    """

    name: str
    target: str
    arguments: tuple[str, ...]
    updates: int = 0
    pace: float = 1.0
    needs: tuple[str, ...] = ()

    @property
    def is_run(self) -> bool:
        return self.updates > 0


def _pair(
    experiment: str, target: str, updates: int, pace: float, *norms: str, more: tuple[str, ...] = ()
) -> list[Item]:
    return [
        Item(f"{experiment}-{norm}", target, ("run", experiment, "--norm", norm, *more), updates, pace)
        for norm in norms
    ]


def _variants(experiment: str, target: str, updates: int, pace: float, *variants: str) -> list[Item]:
    return [
        Item(f"{experiment}-{variant}", target, ("run", experiment, "--variant", variant), updates, pace)
        for variant in variants
    ]


GAMMAS = ("0.1", "0.3", "0.5", "0.7", "1.0")
_C, _L = "Cooijmans et al. 2017", "Laurent et al. 2015"

ITEMS: tuple[Item, ...] = (
    Item("tanh-derivative", f"{_C}, Figure 2b", ("figure", "tanh-derivative"), pace=5),
    Item("gradient-flow", f"{_C}, Figure 2a", ("figure", "gradient-flow"), pace=30),
    *_pair("ptb-word-small", f"{_L}, Table 2", 7260, 0.12, "none", "input-frame"),
    *_pair("ptb-word-medium", f"{_L}, Table 2", 32331, 1.0, "none", "input-frame", more=("--schedule", "released")),
    *_pair("ptb-word-large", f"{_L}, Table 2; Figure 3", 45595, 4.0, "none", "input-frame"),
    *_pair("smnist", f"{_C}, Table 1; Figure 3", 100_000, 0.2, "none", "recurrent"),
    *_pair("pmnist", f"{_C}, Table 1; Figure 3", 100_000, 0.2, "none", "recurrent"),
    *_pair("pmnist-released", f"{_C}, Table 1; Figure 3", 100_000, 0.2, "none", "recurrent"),
    *_pair("ptb-char", f"{_C}, Table 2; Figure 4a", 15_820, 1.2, "none", "recurrent"),
    *_pair("text8", f"{_C}, Table 3", 195_350, 9.0, "none", "recurrent"),
    *_variants(
        "cnn-top4", f"{_C}, Figure 5a", 300_000, 0.8, "lstm", "bn-lstm", "bn-everywhere", "bn-e-star", "bn-e-star-star"
    ),
    *_variants("cnn-full", f"{_C}, Table 4; Figure 5b", 400_000, 4.0, "lstm", "bn-e-star-star"),
    *(
        Item(
            f"gamma-{task}-{gamma}", f"{_C}, Figure 7", ("run", task, "--norm", "recurrent", "--gamma", gamma), n, pace
        )
        for task, n, pace in (("pmnist", 50_000, 0.2), ("ptb-char", 15_820, 1.2))
        for gamma in GAMMAS
    ),
    Item("h2h", f"{_L}, Figure 1 and section 4", ("search", "h2h"), 0, 52 * 2 * 1600.0),
    Item("lengths", f"{_C}, Figure 4b", ("figure", "lengths"), 0, 900, ("ptb-char-none", "ptb-char-recurrent")),
    Item(
        "population-statistics", f"{_C}, Figure 6", ("figure", "population-statistics"), 0, 5, ("ptb-char-recurrent",)
    ),
    Item(
        "gamma-sensitivity",
        f"{_C}, Figure 7",
        ("figure", "gamma-sensitivity"),
        0,
        5,
        tuple(f"gamma-{task}-{gamma}" for task in ("pmnist", "ptb-char") for gamma in GAMMAS),
    ),
)


@dataclass(frozen=True)
class Step:
    """What is to be done of an item.

    Args:
        item: the item.
        place: the run's folder, or the figure's numbers.
        start, end: updates; both 0 for a figure.
        seconds: expected.
        measured: whether a record told the pace.
    """

    item: Item
    place: Path
    start: int
    end: int
    seconds: float
    measured: bool


def seconds_of(budget: str) -> float:
    """A budget in seconds: as ``10m``, ``2h``, ``90s``, or ``full`` for no end.

    Raises:
        ValueError: another form.
    """
    if budget == "full":
        return float("inf")
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", budget.strip())
    if found is None or not float(found[1]) > 0:
        raise ValueError(f"budget must be as 90s, 10m, 2h, 3d or full; got {budget!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def choose(only: Sequence[str]) -> tuple[Item, ...]:
    """The items whose names are given, or begin with what is given; all where nothing is.

    Raises:
        ValueError: a name that stands for none.
    """
    for name in only:
        if not any(item.name == name or item.name.startswith(f"{name}-") for item in ITEMS):
            raise ValueError(f"only: there is no {name!r}; there are {', '.join(item.name for item in ITEMS)}")
    return tuple(
        item
        for item in ITEMS
        if not only or any(item.name == name or item.name.startswith(f"{name}-") for name in only)
    )


def plan(items: Iterable[Item], runs: Sequence[Run], budget: float) -> list[Step]:
    """The steps that a budget of seconds has room for, the shortest first.

    Whatever is complete already is left out. Where the next item does not fit as a whole, a run is gone on with as far
    as the rest of the budget carries it. A figure comes when its runs have come to something.
    """
    steps, left = [], budget
    waiting = [step for item in items if (step := _missing(item, runs)) is not None]
    for step in sorted(waiting, key=lambda step: step.seconds):
        if step.seconds <= left:
            steps.append(step)
            left -= step.seconds
        elif step.item.is_run and left > 0:
            share = int((step.end - step.start) * left / step.seconds)
            if share > 0:
                steps.append(replace(step, end=step.start + share, seconds=left))
            break
    figures = [step for step in steps if step.item.needs]
    return [step for step in steps if not step.item.needs] + figures


def _missing(item: Item, runs: Sequence[Run]) -> Step | None:
    if not item.is_run:
        place = FIGURES / f"{item.name}.csv"
        there = all(any(_serves(run, name) for run in runs) for name in item.needs)
        return None if place.exists() or not there else Step(item, place, 0, 0, item.pace, False)
    own = [run for run in runs if _serves(run, item.name)]
    if any(run.complete for run in own):
        return None
    begun = max((run for run in own if run.resumable), key=lambda run: run.updates, default=None)
    place, start = (begun.path, begun.updates) if begun else (RUNS / item.name, 0)
    pace = next((found for run in runs if run.experiment == item.arguments[1] and (found := _pace(run))), None)
    return Step(item, place, start, item.updates, (item.updates - start) * (pace or item.pace), pace is not None)


def folders(item: Item, runs: Sequence[Run]) -> list[Path]:
    """Of the runs that a figure draws, those that have come farthest, one for each of its needs."""
    found = [[run for run in runs if _serves(run, name)] for name in item.needs]
    return [max(own, key=lambda run: (run.resumable, run.updates)).path for own in found if own]


def _serves(run: Run, name: str) -> bool:
    """Whether a run is the one that the item of a name asks for, with every other option as by default."""
    item = next(item for item in ITEMS if item.name == name)
    options = dict(zip(item.arguments[2::2], item.arguments[3::2], strict=True))
    wanted = {name.removeprefix("--").replace("-", "_"): value for name, value in options.items()}
    held = run.config["config"]
    same = all(str(held.get(key)) == value or _equal(held.get(key), value) for key, value in wanted.items())
    others = set(run.config.get("changed", {})) - {*wanted, *run.config.get("evaluation_options", ())}
    return run.experiment == item.arguments[1] and same and not others - {"seed", "backend"}


def _equal(held: object, word: str) -> bool:
    """Whether an option's value is the one of a word; None stands for the gain of 0.1, which is the default."""
    try:
        return (0.1 if held is None else float(str(held))) == float(word)
    except ValueError:
        return False


def _pace(run: Run) -> float | None:
    """Seconds an update, from a run's own rows."""
    timed = [row for row in run.rows if row["kind"] == "train" and row.get("seconds")]
    return timed[-1]["seconds"] / timed[-1]["update"] if timed else None
