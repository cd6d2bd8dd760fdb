"""The GPU's command: its whole plan without a GPU, and that no job can end the others."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
import torch
from benchmarks.gpu.command import measure, within
from benchmarks.gpu.jobs import Job, plan
from benchmarks.gpu.place import Cuda, Interpreter, precision
from benchmarks.gpu.results import GpuResults, page
from benchmarks.gpu.variants import CUDNN, SHAPES, VARIANTS
from benchmarks.gpu.worker import Worker
from benchmarks.store import ROOT

FACTS: dict[str, Any] = {"toy": True, "code": "a", "device": "none", "torch": "2", "triton": "3", "driver": "1",
                         "processor": "p", "sessions": [{"date": "2026-01-01", "load": 0.0}]}  # fmt: skip
TIMED = Job("time", "eager", "tf32", (784, 64, 1, 100))


def found(ratio: float) -> dict[str, float]:
    times = {f"{name}{end}": ratio for name in ("ratio", "milliseconds") for end in ("_25", "", "_75")}
    return {"megabytes": 30.0, "peer_megabytes": 20.0, "rounds": 4, **times}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is for Linux")
def test_the_whole_plan_runs_without_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "gpu", "--minutes", "60", "--out", str(tmp_path)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr + (tmp_path / "gpu.log").read_text()
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    keys = [{name: row[name] for name in job.key} for row, job in zip(rows, plan(toy=True), strict=True)]
    assert keys == [json.loads(json.dumps(job.key)) for job in plan(toy=True)]
    text = (tmp_path / "gpu.md").read_text()
    assert "rehearsal" in text
    assert all(f"| {name} |" in text for name in VARIANTS)
    again = subprocess.run([*command, "--resume"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert again.stdout.count("\n") == 1  # nothing is left


def test_the_plan_has_every_job_once() -> None:
    for toy in (True, False):
        keys = [json.dumps(job.key) for job in plan(toy)]
        assert len(set(keys)) == len(keys)
    timed = [job for job in plan(toy=False) if job.stage == "time"]
    first = timed[: len(SHAPES) * len(VARIANTS)]
    assert {job.precision for job in first} == {"tf32"}
    assert len({job.shape for job in first}) == 7


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path / "log", toy=True)
    yield made
    made.stop()


def test_a_job_that_fails_hangs_or_crashes_is_a_result_and_the_next_one_runs(worker: Worker) -> None:
    job = Job("ceiling", "copy")
    assert worker.ask(replace(job, limit=0.01)) == {"error": "killed after 0.01 s"}
    assert "gigabytes_per_second" in worker.ask(job)
    assert worker.ask(replace(job, name="none")) == {"error": "KeyError: 'none'"}
    assert "Traceback" in worker.log.read_text()
    assert "gigabytes_per_second" in worker.ask(job)
    assert worker._process is not None
    worker._process.kill()
    assert "ended with -9" in worker.ask(job)["error"]
    assert "gigabytes_per_second" in worker.ask(job)


def test_no_job_begins_after_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not measure(tmp_path, 0.0, resume=False)
    assert "not reached" in capsys.readouterr().out
    assert within(Job("time", "eager", limit=30.0), 0.0).limit == 5.0


def test_failed_jobs_are_kept_in_the_page_and_taken_again(tmp_path: Path) -> None:
    results = GpuResults(tmp_path)
    results.start(FACTS)
    good, bad = TIMED, replace(TIMED, name="eager in a graph")
    results.add(good, found(3.0))
    results.add(bad, {"error": "RuntimeError: out of memory"})
    text = (tmp_path / "gpu.md").read_text()
    assert "3.00 (3.00-3.00), 3 ms | error | eager: not the bar" in text
    assert "- time eager in a graph 784 x 64 x 1 x 100 tf32: RuntimeError: out of memory" in text
    assert "1.50 (30 / 20)" in text
    again = GpuResults(tmp_path)
    again.resume(FACTS)
    assert again.has(good)
    assert not again.has(bad)
    assert len(again.about["sessions"]) == 2


@pytest.mark.parametrize("name", ["code", "device", "torch", "triton", "driver"])
def test_runs_of_different_machines_do_not_mix(tmp_path: Path, name: str) -> None:
    GpuResults(tmp_path).start(FACTS)
    with pytest.raises(ValueError, match=f"{name} was"):
        GpuResults(tmp_path).resume({**FACTS, name: "other"})


@pytest.mark.parametrize(
    ("ratio", "said"), [(0.9, "the goal"), (1.0, "the goal"), (1.2, "the bar"), (1.3, "not the bar")]
)
def test_the_verdict_is_of_the_fastest_normalized_variant(ratio: float, said: str) -> None:
    rows = [{**replace(TIMED, name=name).key, **found(r)} for name, r in ((CUDNN.name, 0.1), ("eager", ratio))]
    assert f"| eager: {said} |" in page(FACTS, rows)


def test_wrong_results_and_what_a_kernel_does_not_cover_are_said_and_win_nothing() -> None:
    names = {"step": found(1.1), "dot": found(0.5), "scan": {"not run": "too many programs"}}
    rows = [{**replace(TIMED, name=name).key, **values} for name, values in names.items()]
    rows.append({**Job("verify", "dot").key, "error": "RuntimeError: 1 results are off"})
    text = page(FACTS, rows)
    assert "0.50 (0.50-0.50), 0.5 ms, WRONG RESULTS | not covered | step: the bar |" in text
    assert "- verify dot: RuntimeError: 1 results are off" in text


def test_precision_is_for_the_block_alone() -> None:
    matmul: Any = torch.backends.cuda.matmul
    rnn: Any = torch.backends.cudnn.rnn
    before = matmul.fp32_precision, rnn.fp32_precision
    for name, said in (("tf32", "tf32"), ("float32", "ieee"), ("bfloat16", "ieee")):
        with precision(name) as dtype:  # type: ignore[arg-type]
            assert (matmul.fp32_precision, rnn.fp32_precision) == (said, said)
            assert dtype == (torch.bfloat16 if name == "bfloat16" else torch.float32)
    assert (matmul.fp32_precision, rnn.fp32_precision) == before


def test_on_a_device_time_memory_and_graphs_are_taken_by_torchs_own_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins that have the signatures of torch's functions: all that can be seen of it without a GPU."""
    graph = MagicMock(spec=torch.cuda.CUDAGraph)
    event = MagicMock(spec=torch.cuda.Event)
    event.elapsed_time.return_value = 5.0
    properties = MagicMock(major=9, minor=0, multi_processor_count=132, total_memory=2**36)
    stand_ins: dict[str, Any] = {
        "get_device_properties": properties, "max_memory_allocated": 3 * 2**20, "memory_allocated": 2**20,
        "Event": event, "CUDAGraph": graph, "synchronize": None, "empty_cache": None, "reset_peak_memory_stats": None,
    }  # fmt: skip
    for name, result in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, create_autospec(getattr(torch.cuda, name), return_value=result))
    for name in ("Stream", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    calls: list[int] = []
    cuda = Cuda()
    assert cuda.seconds(lambda: calls.append(0)) == 0.005
    assert [call[0] for call in event.method_calls] == ["record", "record", "synchronize", "elapsed_time"]
    played = cuda.graph(lambda: calls.append(1))
    assert calls == [0, 1, 1, 1, 1]  # three to warm up, one to capture
    played()
    assert calls == [0, 1, 1, 1, 1]
    graph.replay.assert_called_once_with()
    memory: dict[str, float] = {}
    with cuda.memory(memory):
        pass
    assert memory == {"megabytes": 2.0}
    assert cuda.facts()["multiprocessors"] == 132
    assert Interpreter().facts().keys() >= {"device"}
