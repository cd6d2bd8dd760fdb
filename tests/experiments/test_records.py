"""Records of runs, also of those that an earlier version made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bnrnn.experiments.records import record
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.training import RunError

ROOT = Path(__file__).parents[2]
CONFIG = {
    "experiment": "ptb-word-small",
    "label": "lstm-none-released-seed1",
    "changed": {"norm": "none", "schedule": "released"},
    "config": {"norm": "none", "schedule": "released", "units": 200, "resets": 1, "epochs": None},
    "precision": "32-true",
    "matmul": "highest",
}  # of a version that knew no floor


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "metrics.jsonl").write_text('{"kind": "train", "update": 50}\n')
    for name in ("environment.json", "result.json", "rows.json"):
        (path / name).write_text(json.dumps({"of": name}))
    for name in ("checkpoint.safetensors", "model.safetensors", ".lock"):
        (path / name).write_bytes(b"not for a record")
    return path


def test_a_record_has_what_is_small_and_a_config_of_this_version(tmp_path: Path) -> None:
    run = folder(tmp_path / "old")
    earlier = tmp_path / "records/old"
    earlier.mkdir(parents=True)
    for name in ("lengths.json", "result.json"):  # of another run of that name
        (earlier / name).write_text("{}")
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    kept = record(run, tmp_path / "records")
    assert kept == tmp_path / "records/old"
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    assert sorted(file.name for file in kept.iterdir()) == [
        "config.json", "environment.json", "metrics.jsonl", "result.json", "rows.json",
    ]  # fmt: skip
    assert all((kept / name).read_bytes() == before[name] for name in ("metrics.jsonl", "result.json", "rows.json"))
    config = json.loads((kept / "config.json").read_text())
    assert config["config"]["probability_floor"] == 0.0
    assert config["report"]["options"] == ["resets", "probability_floor"]
    assert (config["precision"], config["matmul"]) == ("32-true", "highest")
    written = (kept / "config.json").read_bytes()
    assert record(kept, tmp_path / "records") == kept
    assert (kept / "config.json").read_bytes() == written


def test_the_committed_records_tell_a_report_what_their_experiments_do() -> None:
    found = sorted((ROOT / "records").rglob("config.json"))
    assert found
    for path in found:
        described = json.loads(path.read_text())
        today = EXPERIMENTS[described["experiment"]].upgrade(described)
        assert {**described["report"], "label": described["label"]} == {**today["report"], "label": today["label"]}, (
            path
        )


def test_a_sweeps_trials_are_kept_in_a_folder_of_their_own(tmp_path: Path) -> None:
    trials = [folder(tmp_path / sweep / "gamma=.1") for sweep in ("one", "other")]
    kept = [record(trial, tmp_path / "records") for trial in trials]
    assert kept == [tmp_path / "records/one/gamma=.1", tmp_path / "records/other/gamma=.1"]
    assert record(kept[0], tmp_path / "records") == kept[0]


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        record(tmp_path, tmp_path / "records")
    run = folder(tmp_path / "run")
    (run / "metrics.jsonl").write_bytes(b" " * 5_000_001)
    with pytest.raises(RunError, match=r"metrics.jsonl has 5,000,001 bytes; a record holds what is small"):
        record(run, tmp_path / "records")


def test_the_command_names_the_records(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    command = [sys.executable, "-m", "bnrnn", "record", str(run), "--out", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "kept/run")]
    failed = subprocess.run(command[:4], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "needs at least one run folder" in failed.stderr
