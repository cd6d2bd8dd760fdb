"""What a budget has room for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bnrnn.cli import reproduce
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.report import reproduction
from bnrnn.report.reproduction import ITEMS, choose, folders, plan, seconds_of
from bnrnn.report.runs import Run, read_run


def run_of(path: Path, experiment: str, updates: int, status: str | None = None, **options: Any) -> Run:
    """A run folder at so many updates, half a second each."""
    path.mkdir(parents=True)
    found = EXPERIMENTS[experiment]
    described = found.describe(type(found.config)(**{**vars(found.config), **options}))
    (path / "config.json").write_text(json.dumps(described))
    row = {"kind": "train", "update": updates, "loss": 1.0, "seconds": updates / 2}
    (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (path / "checkpoint.safetensors").touch()
    if status:
        result = {"status": status, "updates": updates, "planned_updates": updates}
        (path / "result.json").write_text(json.dumps(result))
    return read_run(path)


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400), ("1d", 86400)]
)
def test_budgets(budget: str, seconds: float) -> None:
    assert seconds_of(budget) == seconds
    assert seconds_of("full") == float("inf")


@pytest.mark.parametrize("budget", ["", "10", "h", "-2h", "0m", "two hours"])
def test_wrong_budgets(budget: str) -> None:
    with pytest.raises(ValueError, match="budget must be as"):
        seconds_of(budget)


def test_every_item_is_a_command_that_exists() -> None:
    names = [item.name for item in ITEMS]
    assert len(set(names)) == len(names)
    for item in ITEMS:
        assert set(item.needs) <= set(names)
        if item.is_run:
            assert item.arguments[0] == "run"
            found = EXPERIMENTS[item.arguments[1]]
            options = {name.removeprefix("--").replace("-", "_") for name in item.arguments[2::2]}
            assert options <= set(vars(found.config))


def test_names_choose_items_by_how_they_begin() -> None:
    assert [item.name for item in choose(["smnist"])] == ["smnist-none", "smnist-recurrent"]
    assert [item.name for item in choose(["lengths"])] == ["lengths"]
    assert choose([]) == ITEMS
    with pytest.raises(ValueError, match="only: there is no 'mnist'"):
        choose(["mnist"])


def test_shortest_first_and_the_last_one_as_far_as_the_budget_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction, "FIGURES", tmp_path)
    begun = run_of(tmp_path / "a", "smnist", 99_000, norm="none")
    items = choose(["smnist", "tanh-derivative"])
    steps = plan(items, [begun], 1000.0)
    assert [(step.item.name, step.start, step.end, step.measured) for step in steps] == [
        ("tanh-derivative", 0, 0, False),
        ("smnist-none", 99_000, 100_000, True),
        ("smnist-recurrent", 0, 990, True),
    ]
    assert steps[1].place == begun.path
    assert steps[1].seconds == 500
    assert sum(step.seconds for step in steps) == 1000
    assert "updates 99,000 to 100,000" in reproduce.table(steps)
    assert "5 s (a guess)" in reproduce.table(steps)


def test_what_is_complete_or_drawn_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduction, "FIGURES", tmp_path)
    (tmp_path / "tanh-derivative.csv").touch()
    done = run_of(tmp_path / "a", "smnist", 100_000, "complete", norm="none", seed=3)
    steps = plan(choose(["smnist", "tanh-derivative"]), [done], float("inf"))
    assert [step.item.name for step in steps] == ["smnist-recurrent"]


def test_a_run_with_other_options_does_not_serve(tmp_path: Path) -> None:
    other = run_of(tmp_path / "a", "smnist", 100_000, "complete", norm="none", units=50)
    record = run_of(tmp_path / "b", "smnist", 50_000, norm="none")
    (record.path / "checkpoint.safetensors").unlink()  # a record cannot be gone on with
    (step,) = plan(choose(["smnist-none"]), [other, record], float("inf"))
    assert (step.start, step.end) == (0, 100_000)


def test_a_figure_waits_for_its_runs_and_draws_the_farthest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduction, "FIGURES", tmp_path / "figures")
    (item,) = choose(["population-statistics"])
    assert plan([item], [], float("inf")) == []
    short = run_of(tmp_path / "a", "ptb-char", 791)
    far = run_of(tmp_path / "b", "ptb-char", 1582, seed=2)
    (step,) = plan([item], [short, far], float("inf"))
    assert step.place == tmp_path / "figures" / "population-statistics.csv"
    assert folders(item, [short, far]) == [far.path]


def test_a_dry_run_says_the_plan_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reproduce.run(["--budget", "10m", "--only", "tanh-derivative", "--dry-run"]) == 0
    assert "tanh-derivative" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_figure_within_the_budget_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reproduce.run(["--budget", "10m", "--only", "tanh-derivative"]) == 0
    assert (tmp_path / "records/figures/tanh-derivative.svg").stat().st_size > 1000
    assert reproduce.run(["--budget", "10m", "--only", "tanh-derivative", "--dry-run"]) == 0
