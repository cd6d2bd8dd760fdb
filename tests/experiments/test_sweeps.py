"""Sweeps: what they run, and that no death of a worker changes what comes out."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from bnrnn.cli import sweep as command
from bnrnn.cli.usage import UsageError
from bnrnn.experiments.pixels.digits import DIGITS
from bnrnn.experiments.sweeps import Outcome, Plan, combine, draws, folder_name, grid, open_study, outcomes, work
from bnrnn.figures.sweep import sweep_figure
from bnrnn.training import DivergenceError, InterruptionError, RunError


def test_a_grid_is_every_combination_seeds_last() -> None:
    assert grid(["gamma=.1,.3", "--rho=.5"], "1-2") == [
        {"gamma": ".1", "rho": ".5", "seed": "1"},
        {"gamma": ".1", "rho": ".5", "seed": "2"},
        {"gamma": ".3", "rho": ".5", "seed": "1"},
        {"gamma": ".3", "rho": ".5", "seed": "2"},
    ]
    assert grid(["learning-rate=1,1,2"]) == [{"learning_rate": "1"}, {"learning_rate": "2"}]
    assert grid([], "3,5") == [{"seed": "3"}, {"seed": "5"}]
    assert grid([]) == [{}]


@pytest.mark.parametrize(
    ("axes", "seeds", "message"),
    [
        (["gamma"], None, "grid must be NAME=VALUE"),
        (["gamma="], None, "grid must be NAME=VALUE"),
        (["gamma=1", "gamma=2"], None, "names gamma twice"),
        ([], "3-1", "seeds must rise"),
        ([], "one", "seeds must be as"),
    ],
)
def test_a_grid_refuses(axes: list[str], seeds: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(axes, seeds)


def test_draws_keep_their_laws_and_their_seed() -> None:
    axes = ["learning_rate=log:1e-4:1", "momentum=.5,.9", "noise=uniform:2:3"]
    found = draws(4000, axes, seed=7)
    assert found == draws(4000, axes, seed=7) != draws(4000, axes, seed=8)
    rates = sorted(math.log10(float(draw["learning_rate"])) for draw in found)
    assert rates[0] > -4
    assert rates[-1] < 0
    assert [rates[i] for i in (1000, 2000, 3000)] == pytest.approx([-3, -2, -1], abs=0.1)
    assert 0.45 < sum(draw["momentum"] == ".5" for draw in found) / 4000 < 0.55
    assert all(2 <= float(draw["noise"]) <= 3 for draw in found)


@pytest.mark.parametrize(
    ("count", "axes", "message"),
    [
        (0, ["a=1,2"], "random must be at least 1"),
        (2, [], "need --space"),
        (2, ["a=log:0:1"], "above 0 for log"),
        (2, ["a=uniform:3:1"], "LOW below HIGH"),
        (2, ["a=log:x:1"], "with numbers"),
    ],
)
def test_draws_refuse(count: int, axes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draws(count, axes)


def test_every_draw_meets_every_point() -> None:
    pairs = combine([{"lr": "1"}, {"lr": "2"}], grid(["norm=none,summed"]))
    assert pairs == [{"lr": lr, "norm": norm} for lr in "12" for norm in ("none", "summed")]
    with pytest.raises(ValueError, match="both space and grid name lr"):
        combine([{"lr": "1"}], [{"lr": "2"}])
    assert folder_name({"seed": "1", "gamma": ".1", "text": "a/b c"}) == "gamma=.1,seed=1,text=a_b_c"


def plan(*values: str, better: str = "lower") -> Plan:
    return Plan("toy", tuple({"x": value} for value in values), {"y": 1}, "loss", better)


def result(loss: float) -> dict[str, Any]:
    return {"evaluation": {"valid": {"batch": {"loss": loss}}}}


@pytest.mark.parametrize("kind", ["file", "database"])
def test_outcomes_of_every_kind(tmp_path: Path, kind: str) -> None:
    where = str(tmp_path / "s.log") if kind == "file" else f"sqlite:///{tmp_path / 's.db'}"
    study, made = open_study(where, "toy", plan("1", "2", "3", "4"))

    def execute(options: dict[str, str], folder: Path) -> dict[str, Any]:
        assert folder == tmp_path / f"x={options['x']}"
        if options["x"] == "2":
            raise DivergenceError("loss inf")
        if options["x"] == "3":
            raise ValueError("no\nsuch thing")
        return result(float(options["x"]) / 2)

    lines: list[str] = []
    work(study, made, execute, tmp_path, lines.append)
    joined, same = open_study(where, "toy", None)
    assert same == made
    assert outcomes(joined) == [
        Outcome({"x": "1"}, "complete", 0.5, "x=1", ""),
        Outcome({"x": "2"}, "diverged", None, "x=2", "loss inf"),
        Outcome({"x": "3"}, "failed", None, "x=3", "no such thing"),
        Outcome({"x": "4"}, "complete", 2.0, "x=4", ""),
    ]
    assert lines == ["x=1: complete, loss 0.5000", "x=2: diverged", "x=3: failed", "x=4: complete, loss 2.0000"]
    assert study.best_trial.user_attrs["options"] == {"x": "1"}
    work(study, made, execute, tmp_path, lines.append)  # nothing is left
    assert len(lines) == 4


def test_another_plan_of_the_name_is_refused_and_a_larger_one_too(tmp_path: Path) -> None:
    where = str(tmp_path / "s.log")
    open_study(where, "toy", plan("1"))
    open_study(where, "toy", plan("1"))
    with pytest.raises(RunError, match="holds another sweep"):
        open_study(where, "toy", plan("1", "2"))
    with pytest.raises(RunError, match="no sweep of the name other"):
        open_study(where, "other", None)


def test_a_plan_that_was_cut_short_while_it_was_queued_is_made_whole(tmp_path: Path) -> None:
    where = str(tmp_path / "s.log")
    study, _ = open_study(where, "toy", plan("1"))
    study.set_user_attr("bnrnn", {**study.user_attrs["bnrnn"], "options": [{"x": "1"}, {"x": "2"}]})
    study, _ = open_study(where, "toy", plan("1", "2"))
    assert [outcome.options["x"] for outcome in outcomes(study)] == ["1", "2"]


def test_a_silent_trial_is_taken_over_and_an_interrupted_one_queued_again(tmp_path: Path) -> None:
    study, made = open_study(str(tmp_path / "s.log"), "toy", plan("1", "2"))
    lost = study.ask({"x": optuna.distributions.CategoricalDistribution(["1", "2"])})  # a worker that dies here
    assert [outcome.state for outcome in outcomes(study)] == ["running", "waiting"]
    time.sleep(0.3)
    assert [outcome.state for outcome in outcomes(study, silence=0.2)] == ["silent", "waiting"]

    def stopped(options: dict[str, str], folder: Path) -> dict[str, Any]:
        raise InterruptionError("stopped")

    with pytest.raises(InterruptionError):
        work(study, made, stopped, tmp_path, silence=0.2)
    assert sorted(outcome.state for outcome in outcomes(study, silence=0.2)) == ["silent", "waiting"]
    work(study, made, lambda options, folder: result(float(options["x"])), tmp_path, silence=0.2)
    assert sorted((o.options["x"], o.state, o.value) for o in outcomes(study)) == [
        ("1", "complete", 1.0),
        ("2", "complete", 2.0),
    ]
    assert study.trials[lost.number].state == optuna.trial.TrialState.FAIL


def test_words_become_values_of_the_config() -> None:
    config = command.typed(DIGITS.config, {"gamma": ".3", "seed": "4", "norm": "recurrent"})
    assert (config.gamma, config.seed, config.norm) == (0.3, 4, "recurrent")
    with pytest.raises(UsageError, match="no option gama to vary"):
        command.typed(DIGITS.config, {"gama": "1"})
    with pytest.raises(UsageError, match="seed"):
        command.typed(DIGITS.config, {"seed": "x"})
    with pytest.raises(ValueError, match="units must be at least 1"):
        command.typed(DIGITS.config, {"units": "0"})


def test_the_figure_has_a_panel_an_option_and_marks_divergence() -> None:
    points = [({"lr": "0.001", "norm": "none"}, 1.5, "complete"), ({"lr": "1", "norm": "summed"}, None, "diverged")]
    rate, norm = sweep_figure(points, ["lr", "norm"], "loss").axes
    assert rate.get_xscale() == "log"
    assert [label.get_text() for label in norm.get_xticklabels()] == ["none", "summed"]
    assert list(rate.lines[0].get_xdata()) == [0.001]
    assert list(rate.lines[1].get_xdata()) == [1.0]


def run_sweep(folder: Path) -> subprocess.Popen[bytes]:
    options = ["--grid", "gamma=.1,.2,.4", "norm=recurrent,summed", "--seeds", "1-2", "--units", "4", "--threads", "1"]
    length = [
        "--max-updates",
        "60",
        "--evaluate-every",
        "20",
        "--population-every",
        "0",
        "--checkpoint-seconds",
        "0.05",
    ]
    where = ["--out", str(folder), "--silence", "2"]
    line = [sys.executable, "-m", "bnrnn", "sweep", "digits", *options, *length, *where]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def results_of(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        found[path.parent.name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "seconds"}
    return found


def test_workers_killed_ten_times_change_nothing(tmp_path: Path) -> None:
    quiet, disturbed = tmp_path / "quiet" / "s", tmp_path / "disturbed" / "s"
    assert run_sweep(quiet).wait(timeout=900) == 0
    source = random.Random(0)
    workers = [run_sweep(disturbed)]
    while not (disturbed / "study.log").exists():  # the second one joins
        time.sleep(0.1)
    workers.append(run_sweep(disturbed))
    kills = 0
    while kills < 10:
        time.sleep(source.uniform(2.0, 6.0))
        place = source.randrange(2)
        if workers[place].poll() is None:
            os.kill(workers[place].pid, signal.SIGKILL)
            kills += 1
        workers[place].wait()
        workers[place] = run_sweep(disturbed)
    for worker in workers:
        assert worker.wait(timeout=900) == 0
    assert len(results_of(quiet)) == 12
    assert results_of(disturbed) == results_of(quiet)
    study, _ = open_study(str(disturbed / "study.log"), "s", None)
    assert [outcome.state for outcome in outcomes(study)] == ["complete"] * 12
