"""The loop: what it records, selects and keeps, how it stops, and that it goes on exactly."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console
from toy import ToyTask

from bnrnn.training import DivergenceError, InterruptionError, Options, Plan, RunError, RunFolder, train
from bnrnn.training.checkpoint import load, model_of
from bnrnn.training.display import Display

CONFIG = {"experiment": "toy", "label": "toy", "config": {"seed": 1}, "precision": "32-true"}
PLAN = Plan(updates=40, log_every=3, population_every=20, clip=1.0)


def run(path: Path, task: ToyTask, max_updates: int | None = None, resume: bool = False) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.open(CONFIG, resume)
    folder.begin(CONFIG)
    try:
        fabric = Fabric(accelerator="cpu", devices=1)
        display = Display(Console(file=io.StringIO()), "toy", quiet=True)
        return train(fabric, task, folder, Options(max_updates), display)
    finally:
        folder.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock decides."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    first, second = (load(path / "checkpoint.safetensors") for path in (a, b))
    assert first[0].keys() == second[0].keys()
    for name, tensor in first[0].items():
        assert torch.equal(tensor, second[0][name]), name
    places = [{k: v for k, v in facts.items() if k not in ("seconds", "metrics_bytes")} for _, facts in (first, second)]
    assert places[0] == places[1]
    assert rows(a) == rows(b)


def test_rows_evaluations_and_result(tmp_path: Path) -> None:
    result = run(tmp_path / "a", ToyTask(PLAN))
    found = rows(tmp_path / "a")
    assert [row["update"] for row in found if row["kind"] == "train"] == list(range(3, 40, 3))
    batch = [row for row in found if row["kind"] == "evaluation" and row["statistics"] == "batch"]
    assert [row["update"] for row in batch] == [0, 7, 14, 21, 28, 35]
    assert result["status"] == "complete"
    assert result["updates"] == 40
    best = min(batch, key=lambda row: row["error"])  # the first of equals
    assert result["selected"] == {"update": best["update"], "by": "error", "value": best["error"]}
    assert result["evaluation"]["valid"]["batch"]["error"] == best["error"]
    assert result["evaluation"]["valid"]["population"]["loss"] != result["evaluation"]["valid"]["batch"]["loss"]


def test_a_run_stopped_before_its_first_evaluation_is_judged_as_it_is(tmp_path: Path) -> None:
    """Not as the untrained model, which alone was evaluated; and it goes on as if nothing had been."""
    result = run(tmp_path / "a", ToyTask(PLAN), max_updates=3)
    untrained = rows(tmp_path / "a")[0]
    assert result["selected"]["update"] == 3
    assert result["selected"]["value"] == result["evaluation"]["valid"]["batch"]["error"]
    assert result["evaluation"]["valid"]["batch"]["loss"] != untrained["loss"]
    tensors, facts = load(tmp_path / "a" / "checkpoint.safetensors")
    for which in ("best", "last"):
        parameters, update = model_of(tensors, facts, which)
        assert update == 3
        assert all(torch.equal(tensor, tensors[f"model/{name}"]) for name, tensor in parameters.items())
    run(tmp_path / "a", ToyTask(PLAN), resume=True)
    run(tmp_path / "b", ToyTask(PLAN))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_logged_means_are_over_the_window(tmp_path: Path) -> None:
    run(tmp_path / "each", ToyTask(Plan(updates=6, log_every=1)))
    run(tmp_path / "three", ToyTask(Plan(updates=6, log_every=3)))
    each = [row["loss"] for row in rows(tmp_path / "each") if row["kind"] == "train"]
    three = [row["loss"] for row in rows(tmp_path / "three") if row["kind"] == "train"]
    assert three == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3])


def test_learning_rate_follows_the_epoch(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyTask(Plan(updates=21, log_every=7)))
    rates = [row["learning_rate"] for row in rows(tmp_path / "a") if row["kind"] == "train"]
    assert rates == [0.01, 0.005, 0.01 / 3]


def test_population_evaluations_leave_the_training_as_it_is(tmp_path: Path) -> None:
    run(tmp_path / "often", ToyTask(Plan(updates=20, evaluate_every=1, population_every=2)))
    run(tmp_path / "never", ToyTask(Plan(updates=20, evaluate_every=20)))
    often, never = (load(tmp_path / name / "checkpoint.safetensors")[0] for name in ("often", "never"))
    models = [{k: v for k, v in tensors.items() if k.startswith("model/")} for tensors in (often, never)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


def test_a_model_without_batch_normalization_has_one_set_of_numbers(tmp_path: Path) -> None:
    result = run(tmp_path / "a", ToyTask(PLAN, norm=None))
    assert result["evaluation"]["test"]["batch"] == result["evaluation"]["test"]["population"]


def test_seeds_give_different_runs_and_the_same_seed_the_same(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, ToyTask(PLAN, seed=seed), max_updates=10)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


@pytest.mark.parametrize("stops", [[1], [7, 8], [3, 13, 14, 20, 39]])
def test_a_run_in_pieces_is_the_undisturbed_run(tmp_path: Path, stops: list[int]) -> None:
    whole = run(tmp_path / "whole", ToyTask(PLAN))
    for stop in stops:
        partial = run(tmp_path / "pieces", ToyTask(PLAN), max_updates=stop, resume=True)
        assert partial["status"] == "partial"
    pieces = run(tmp_path / "pieces", ToyTask(PLAN), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")
    assert {**pieces, "seconds": 0} == {**whole, "seconds": 0}


def test_killed_at_ten_moments_and_resumed_is_the_undisturbed_run(tmp_path: Path) -> None:
    """SIGKILL at random moments; the checkpoint's interval is so short that kills fall into writing as well."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, str(Path(__file__).with_name("killed.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(whole)], check=True, env=environment, timeout=300)
    moments = random.Random(5)
    kills = 0
    while kills < 10:
        process = subprocess.Popen([*command, str(killed)], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"  # imports are over
        time.sleep(moments.uniform(0.02, 0.5))
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        assert not ended, "the run was over before ten kills: make it longer"
        kills += 1
    subprocess.run([*command, str(killed)], check=True, env=environment, timeout=300, stdout=subprocess.DEVNULL)
    assert_same_run(whole, killed)
    for name in ("result.json", "model.safetensors"):
        a, b = ((path / name).read_bytes() for path in (whole, killed))
        assert a == b or name == "result.json"
    results = [json.loads((path / "result.json").read_text()) for path in (whole, killed)]
    assert {**results[0], "seconds": 0} == {**results[1], "seconds": 0}


def test_a_signal_saves_and_stops(tmp_path: Path) -> None:
    class Interrupted(ToyTask):
        def batch(self, epoch: int, position: int) -> Any:
            if epoch * 7 + position == 11:
                os.kill(os.getpid(), signal.SIGINT)
            return super().batch(epoch, position)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptionError, match="update 12"):
        run(tmp_path / "stopped", Interrupted(PLAN))
    assert load(tmp_path / "stopped" / "checkpoint.safetensors")[1]["update"] == 12
    assert signal.getsignal(signal.SIGINT) is before
    run(tmp_path / "stopped", ToyTask(PLAN), resume=True)
    run(tmp_path / "whole", ToyTask(PLAN))
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_loss_that_is_no_number_stops_with_a_diagnosis(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"update 18 \(epoch 2, batch 3\): loss nan.*rnn\.weight_ih_l0") as error:
        run(tmp_path / "a", ToyTask(PLAN, nan_at=17))
    assert "parameters not finite: none" in str(error.value)
    tensors, facts = load(tmp_path / "a" / "checkpoint.safetensors")
    assert facts["update"] == 14  # the last epoch's end
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a")
    first.open(CONFIG, resume=False)
    with pytest.raises(RunError, match="another process"):
        second.open(CONFIG, resume=True)
    first.close()
    second.open(CONFIG, resume=True)
    second.close()


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a")
    folder.open(CONFIG, resume=False)
    folder.begin(CONFIG)
    folder.close()
    with pytest.raises(RunError, match="--resume"):
        RunFolder(tmp_path / "a").open(CONFIG, resume=False)
    with pytest.raises(RunError, match="seed 1, not 2"):
        RunFolder(tmp_path / "a").open({**CONFIG, "config": {"seed": 2}}, resume=True)
    with pytest.raises(RunError, match="precision 32-true, not 64-true"):
        RunFolder(tmp_path / "a").open({**CONFIG, "precision": "64-true"}, resume=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write the run folder.*--run-dir"):
        RunFolder(tmp_path / "file" / "run").open(CONFIG, resume=False)


@pytest.mark.parametrize("length", [0, 5, 100, 2000])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, length: int) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=3)
    path = tmp_path / "a" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match="not a whole checkpoint"):
        run(tmp_path / "a", ToyTask(PLAN), resume=True)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=3)
    with pytest.raises(RunError, match="does not fit this experiment"):
        run(tmp_path / "a", ToyTask(PLAN, norm=None), resume=True)


@pytest.mark.parametrize(("options", "word"), [((0,), "max_updates"), ((5, 0.0), "checkpoint_seconds")])
def test_bad_options_are_named(options: tuple[Any, ...], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word} must be"):
        Options(*options)
