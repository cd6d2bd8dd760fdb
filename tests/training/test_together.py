"""Runs by several processes: the numbers of one, resumed by another number, stopped, killed, diverged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bnrnn.cli import main
from bnrnn.training import RunError, launch
from bnrnn.training.checkpoint import load
from bnrnn.training.session import Session

OPTIONS = (
    "--units=4 --batch-size=7 --length=6 --epochs=6 --evaluate-every=50 --carry-state --norm=recurrent --threads=1"
    " --evaluation-batch-size=200 --population-batch-size=200 --precision=64-true --checkpoint-seconds=.2 --quiet"
    " --no-whole-test"
)
"""Of 306 updates."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = torch.randint(6, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    path.write_text(" ".join(("the", "rain", "in", "spain", "stays", "plain")[word] for word in words))
    return path


def words(text: Path, folder: Path, *more: str) -> list[str]:
    return ["run", "char-lm", f"--text={text}", f"--run-dir={folder}", *OPTIONS.split(), *more]


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert command(*words(text, folder)) == 0
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_equal_numbers(folder: Path, alone: Path) -> None:
    """Parameters, optimiser, state and metrics, as far as the order of sums in float64 lets them be."""
    (found, place), (expected, goal) = (load(path / "checkpoint.safetensors") for path in (folder, alone))
    assert (place["update"], place["epoch"], place["position"]) == (goal["update"], goal["epoch"], goal["position"])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
    for row, other in zip(rows(folder), rows(alone), strict=True):
        assert row.keys() == other.keys()
        assert numbers(row) == pytest.approx(numbers(other), rel=1e-6)
    judged = [json.loads((path / "result.json").read_text())["evaluation"] for path in (folder, alone)]
    for part, kinds in judged[1].items():
        for kind, metrics in kinds.items():
            assert judged[0][part][kind] == pytest.approx(metrics, rel=1e-6)


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not isinstance(value, str)}


def test_one_goes_on_as_two(text: Path, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert command(*words(text, folder, "--max-updates=290")) == 0
    assert command(*words(text, folder, "--resume", "--devices=2")) == 0
    assert_equal_numbers(folder, alone)
    starts = json.loads((folder / "environment.json").read_text())
    assert [(start.get("processes"), start.get("synchronize")) for start in starts] == [(None, None), (2, True)]


def test_two_are_stopped_killed_and_go_on_as_one(text: Path, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def begin(*more: str) -> tuple[Any, int]:
        """Two processes at work, and how far they have come."""
        arguments = [sys.executable, "-m", "bnrnn", *words(text, folder, "--devices=2", *more)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = update(folder)
        deadline = time.monotonic() + 200
        while update(folder) <= before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process, update(folder)

    process, _ = begin()
    process.send_signal(signal.SIGTERM)
    told, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert f"stopped at update {update(folder):,}; to go on: bnrnn run char-lm" in told
    assert errors == ""

    process, _ = begin("--resume")
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    told, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert errors.startswith("bnrnn: process ")
    assert "was ended by SIGKILL, and the others were stopped; the last checkpoint is kept" in errors
    assert errors.count("\n") == 1

    assert command(*words(text, folder, "--resume")) == 0
    assert_equal_numbers(folder, alone)


def update(folder: Path) -> int:
    """That of the newest checkpoint."""
    try:
        return load(folder / "checkpoint.safetensors")[1]["update"]
    except FileNotFoundError:
        return 0


def children(pid: int) -> list[int]:
    """The processes that a process has started and that compute."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


def test_a_diverged_run_ends_in_all(text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Here of own statistics: what one process has of it, all have."""
    folder = tmp_path / "run"
    assert command(*words(text, folder, "--devices=2", "--no-synchronize", "--learning-rate=1e300", "--clip=None")) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("bnrnn: training diverged at update ")
    assert errors.count("\n") == 1
    assert "training diverged" in json.loads((folder / "divergence.json").read_text())["diagnosis"]
    (first, *_) = rows(folder)
    assert first["rows"] * 2 - 1 <= json.loads((folder / "config.json").read_text())["config"]["evaluation_batch_size"]


def _refuse() -> None:
    """The second process does; the first would wait for it."""
    if os.environ["LOCAL_RANK"] == "1":
        raise RunError("it does not fit")
    time.sleep(1000)


def test_one_process_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.5)
    with pytest.raises(RunError, match=r"^it does not fit$"):
        launch.launch(_refuse, 2, 1)


def test_several_machines_need_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RunError, match="--nodes 2 needs MASTER_ADDR, MASTER_PORT, NODE_RANK in the environment"):
        launch.launch(_refuse, 1, 2)


@pytest.mark.parametrize("name", ["devices", "nodes"])
def test_no_processes(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Session(**{name: 0})
