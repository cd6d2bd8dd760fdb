"""The loop: what it records, selects and keeps, how it stops, and that it goes on exactly."""

from __future__ import annotations

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
from runs import PLAN, assert_same_run, rows, run
from toy import ToyTask

from bnrnn.training import DivergenceError, InterruptionError, Options, Plan
from bnrnn.training.checkpoint import load, model_of


def test_rows_evaluations_and_result(tmp_path: Path) -> None:
    result = run(tmp_path / "a", ToyTask(PLAN))
    found = rows(tmp_path / "a")
    assert [row["update"] for row in found if row["kind"] == "train"] == list(range(3, 40, 3))
    batch = [row for row in found if row["kind"] == "evaluation" and row["statistics"] == "batch"]
    assert [row["update"] for row in batch] == [0, 7, 14, 21, 28, 35]
    assert {row["rows"] for row in batch} == {8}
    assert {row["rows"] for row in found if row.get("statistics") == "population"} == {24}
    assert "rows" not in found[1]  # of training
    assert result["status"] == "complete"
    assert result["updates"] == 40
    best = min(batch, key=lambda row: row["error"])  # the first of equals
    assert result["selected"] == {"update": best["update"], "by": "error", "value": best["error"]}
    assert result["evaluation"]["valid"]["batch"]["error"] == best["error"]
    assert result["evaluation"]["valid"]["population"]["loss"] != result["evaluation"]["valid"]["batch"]["loss"]
    assert [result["evaluation"]["test"][kind]["rows"] for kind in ("batch", "population")] == [8, 24]
    assert result["stopped_early"] is False


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
    assert "rows" not in result["evaluation"]["test"]["batch"]
    assert {row["rows"] for row in rows(tmp_path / "a") if row["kind"] == "evaluation"} == {None}


def test_population_evaluations_come_at_the_first_evaluation_from_each_multiple_on(tmp_path: Path) -> None:
    run(tmp_path / "whole", ToyTask(Plan(updates=40, population_every=10)))
    for stop in (15, 22, 40):
        run(tmp_path / "pieces", ToyTask(Plan(updates=40, population_every=10)), stop, resume=True)
    for name in ("whole", "pieces"):
        found = [row["update"] for row in rows(tmp_path / name) if row.get("statistics") == "population"]
        assert found == [14, 21, 35]


class BestAt21(ToyTask):
    """The validation loss falls until update 21, then rises."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.model.register_buffer("updates", torch.zeros(()))

    def loss(self, model: Any, *arguments: Any) -> Any:
        model.updates += 1
        return super().loss(model, *arguments)

    def evaluate(self, model: Any, *arguments: Any) -> Any:
        return {**super().evaluate(model, *arguments), "loss": abs(21 - model.updates.item())}


@pytest.mark.parametrize("stops", [[], [9], [21, 30]])
def test_a_run_out_of_patience_ends_complete(tmp_path: Path, stops: list[int]) -> None:
    plan = Plan(updates=400, evaluate_every=7, patience=3, selection="loss")
    for stop in stops:
        assert run(tmp_path / "a", BestAt21(plan), max_updates=stop, resume=True)["status"] == "partial"
    for _ in range(2):  # the second time there is nothing left to do
        result = run(tmp_path / "a", BestAt21(plan), resume=True)
        assert (result["status"], result["stopped_early"]) == ("complete", True)
        assert (result["updates"], result["selected"]["update"]) == (42, 21)
    assert run(tmp_path / "b", BestAt21(Plan(updates=49, evaluate_every=7, selection="loss")))["updates"] == 49


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
    (a, facts), (b, expected) = (load(path / "model.safetensors") for path in (whole, killed))
    assert facts == expected
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    results = [json.loads((path / "result.json").read_text()) for path in (whole, killed)]
    assert {**results[0], "seconds": 0} == {**results[1], "seconds": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    class Interrupted(ToyTask):
        def batch(self, epoch: int, position: int) -> Any:
            if epoch * 7 + position == 11:
                os.kill(os.getpid(), number)
            return super().batch(epoch, position)

    inherited = signal.signal(number, signal.default_int_handler)  # it may be ignored, as below nohup
    try:
        with pytest.raises(InterruptionError, match="update 12"):
            run(tmp_path / "stopped", Interrupted(PLAN))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, inherited)
    assert load(tmp_path / "stopped" / "checkpoint.safetensors")[1]["update"] == 12
    run(tmp_path / "stopped", ToyTask(PLAN), resume=True)
    run(tmp_path / "whole", ToyTask(PLAN))
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    class HungUp(ToyTask):
        def batch(self, epoch: int, position: int) -> Any:
            os.kill(os.getpid(), signal.SIGHUP)
            return super().batch(epoch, position)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        assert run(tmp_path / "a", HungUp(PLAN))["updates"] == 40
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_loss_that_is_no_number_stops_with_a_diagnosis(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"update 18 \(epoch 2, batch 3\): loss nan.*rnn\.weight_ih_l0") as error:
        run(tmp_path / "a", ToyTask(PLAN, nan_at=17))
    assert "parameters not finite: none" in str(error.value)
    tensors, facts = load(tmp_path / "a" / "checkpoint.safetensors")
    assert facts["update"] == 14  # the last epoch's end
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())


@pytest.mark.parametrize(("options", "word"), [((0,), "max_updates"), ((5, 0.0), "checkpoint_seconds")])
def test_bad_options_are_named(options: tuple[Any, ...], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word} must be"):
        Options(*options)
