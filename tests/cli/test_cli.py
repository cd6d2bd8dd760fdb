"""The command line: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bnrnn.cli import main

SMALL = ["--units", "6", "--max-updates", "30", "--quiet"]
Answer = tuple[int, str, str]


@pytest.fixture
def bnrnn(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Carries out a command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNRNN_TRACEBACK", raising=False)

    def call(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        written = capsys.readouterr()
        return int(stop.value.code or 0), written.out, written.err

    return call


def assert_refused(answer: Answer, *words: str) -> None:
    """Code 2 and one line that says all this."""
    code, _, error = answer
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith("bnrnn: ")
    for word in words:
        assert word in error


@pytest.fixture
def trained(bnrnn: Callable[..., Answer]) -> Path:
    code, _, _ = bnrnn("run", "digits", *SMALL, "--run-dir", "a")
    assert code == 0
    return Path("a")


def test_help_and_version(bnrnn: Callable[..., Answer]) -> None:
    code, text, _ = bnrnn("--help")
    assert code == 0
    for command in ("list", "run", "evaluate", "report", "data", "figure"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE)
    assert bnrnn()[0] == 2
    assert re.fullmatch(r"bnrnn \d+\.\d+.*\n", bnrnn("--version")[1])
    code, text, _ = bnrnn("run", "--help")
    assert code == 0
    assert "pmnist-released" in text
    code, text, _ = bnrnn("run", "pmnist", "--help")
    assert code == 0
    for option in ("--norm", "--seed", "--max-updates", "--run-dir", "--resume", "--rho", "--cell"):
        assert option in text


def test_list_tells_source_data_cost_and_results(bnrnn: Callable[..., Answer]) -> None:
    code, text, _ = bnrnn("list")
    assert code == 0
    for word in ("smnist", "pmnist-released", "Table 1; Figure 3, right", "data: mnist", "cost: 100,000 updates"):
        assert word in text
    assert "none yet" in text
    bnrnn("run", "digits", *SMALL)
    assert "results: lstm-recurrent-seed1 (units 6), partial: 30 of 1,200 updates" in bnrnn("list")[1]


def test_run_writes_its_folder(bnrnn: Callable[..., Answer]) -> None:
    code, text, _ = bnrnn("run", "digits", *SMALL, "--norm", "none", "--tensorboard")
    assert code == 0
    assert "accuracy" in text
    assert "population" in text
    folder = Path("runs/digits-lstm-none-seed1")
    config = json.loads((folder / "config.json").read_text())
    assert config["experiment"] == "digits"
    assert config["changed"] == {"units": 6, "norm": "none"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment[0]["command"].startswith("bnrnn run digits --units 6")
    assert environment[0]["versions"]["torch"]
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] == 30
    assert set(result["evaluation"]) == {"valid", "test"}
    assert set(result["evaluation"]["test"]) == {"batch", "population"}
    assert list((folder / "tensorboard").glob("events*"))
    assert (folder / "checkpoint.safetensors").exists()
    assert (folder / "model.safetensors").exists()


def test_run_goes_on_with_resume_and_starts_afresh_where_there_is_nothing(bnrnn: Callable[..., Answer]) -> None:
    for _ in range(2):
        assert bnrnn("run", "digits", *SMALL, "--resume", "--run-dir", "a")[0] == 0
    assert (
        bnrnn("run", "digits", "--units", "6", "--max-updates", "40", "--quiet", "--resume", "--run-dir", "a")[0] == 0
    )
    assert json.loads((Path("a") / "result.json").read_text())["updates"] == 40
    assert len(json.loads((Path("a") / "environment.json").read_text())) == 3


def test_evaluate_repeats_the_result(bnrnn: Callable[..., Answer], trained: Path) -> None:
    code, text, _ = bnrnn("evaluate", str(trained))
    assert code == 0
    assert "best model" in text
    result, record = (json.loads((trained / name).read_text()) for name in ("result.json", "evaluation.json"))
    assert record["evaluation"] == result["evaluation"]
    assert record["update"] == result["selected"]["update"]
    assert bnrnn("evaluate", str(trained), "--model", "last")[0] == 0
    assert json.loads((trained / "evaluation.json").read_text())["update"] == 30


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions(bnrnn: Callable[..., Answer], precision: str) -> None:
    for extra in ([], ["--resume", "--max-updates", "35"]):
        assert bnrnn("run", "digits", *SMALL, "--precision", precision, "--run-dir", "a", *extra)[0] == 0
    assert bnrnn("evaluate", "a")[0] == 0
    result, record = (json.loads((Path("a") / name).read_text()) for name in ("result.json", "evaluation.json"))
    assert record["evaluation"] == result["evaluation"]
    assert 1 < result["evaluation"]["valid"]["population"]["loss"] < 4


def test_report_and_figure(bnrnn: Callable[..., Answer], trained: Path) -> None:
    code, text, _ = bnrnn("report", str(trained), "--out", "page")
    assert code == 0
    assert "report: page/index.html" in text
    assert (Path("page") / "digits.svg").read_text().startswith("<svg")
    assert bnrnn("figure", "curves", str(trained), "--out", "curves.png")[0] == 0
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")


def test_data(bnrnn: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"short")
    monkeypatch.setenv("BNRNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BNRNN_CACHE", str(tmp_path / "cache"))
    code, text, error = bnrnn("data", "list", "mnist")
    assert code == 2
    assert error.count("\n") == 1
    assert "damaged: mnist/train-images-idx3-ubyte.gz" in error
    assert "missing   mnist/train-labels-idx1-ubyte.gz" in text
    assert_refused(bnrnn("data", "verify", "nowhere"), "no data set is called 'nowhere'", "mnist")
    assert_refused(bnrnn("data", "fetch"), "'list', 'get', 'verify'")
    assert_refused(bnrnn("run", "pmnist"), "truncated", "bnrnn data get mnist")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["walk"], ["unknown command 'walk'", "run"]),
        (["run", "mnits"], ["unknown experiment 'mnits'", "smnist"]),
        (["run", "digits", "--nrom", "none"], ["--nrom", "perhaps you meant --norm", "bnrnn run digits --help"]),
        (["run", "digits", "--norm", "batch"], ["'batch'", "'recurrent'"]),
        (["run", "digits", "--seed", "one"], ["--seed", "one"]),
        (["run", "digits", "--seed"], ["--seed"]),
        (["run", "digits", "--units", "0"], ["units must be at least 1, got 0"]),
        (["run", "digits", "--max-updates", "0"], ["max_updates must be at least 1, got 0"]),
        (["run", "digits", "--threads", "0"], ["threads must be at least 1, got 0"]),
        (["run", "digits", "--batch-size", "5000"], ["batch_size must be at most 1,204", "5,000"]),
        (["evaluate", "nowhere"], ["nowhere is not a run folder"]),
        (["evaluate"], ["bnrnn evaluate --help"]),
        (["report"], ["no run to report on"]),
        (["report", "nowhere"], ["nowhere is not a run folder"]),
        (["figure", "pie"], ["unknown figure 'pie'", "curves"]),
        (["figure", "curves"], ["got none", "bnrnn figure curves --help"]),
    ],
)
def test_bad_command_lines_are_refused_in_one_line(
    bnrnn: Callable[..., Answer], arguments: list[str], words: list[str]
) -> None:
    assert_refused(bnrnn(*arguments), *words)


def test_a_bad_start_leaves_no_half_run_behind(bnrnn: Callable[..., Answer]) -> None:
    bnrnn("run", "digits", "--batch-size", "5000", "--run-dir", "a")
    assert bnrnn("run", "digits", *SMALL, "--run-dir", "a")[0] == 0


def test_folders_that_do_not_fit_are_refused(bnrnn: Callable[..., Answer], trained: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    assert_refused(bnrnn("run", "digits", *SMALL, "--run-dir", "a"), "holds a run already", "--resume")
    other = bnrnn("run", "digits", *SMALL, "--rho", "0.5", "--run-dir", "a", "--resume")
    assert_refused(other, "another config", "rho 0.9, not 0.5")
    other = bnrnn("run", "digits-permuted", *SMALL, "--run-dir", "a", "--resume")
    assert_refused(other, "experiment digits, not digits-permuted")
    Path("file").write_text("")
    assert_refused(bnrnn("run", "digits", *SMALL, "--run-dir", "file"), "cannot write the run folder", "--run-dir")
    assert_refused(bnrnn("report", "a", "--out", "file"), "file")
    assert {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


def test_damaged_run_files_are_refused(bnrnn: Callable[..., Answer], trained: Path) -> None:
    for name, command in (
        ("checkpoint.safetensors", ["run", "digits", *SMALL, "--resume", "--run-dir", "b"]),
        ("checkpoint.safetensors", ["evaluate", "b"]),
        ("config.json", ["run", "digits", *SMALL, "--resume", "--run-dir", "b"]),
        ("result.json", ["report", "b"]),
        ("metrics.jsonl", ["report", "b"]),
    ):
        shutil.rmtree("b", ignore_errors=True)
        shutil.copytree(trained, "b")
        content = (Path("b") / name).read_bytes()
        (Path("b") / name).write_bytes(b"}" + content[: len(content) // 2] + b"\n")
        assert_refused(bnrnn(*command), name)


def test_a_run_folder_without_checkpoint_cannot_be_evaluated(bnrnn: Callable[..., Answer], trained: Path) -> None:
    (trained / "checkpoint.safetensors").unlink()
    assert_refused(bnrnn("evaluate", "a"), "no checkpoint")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bnrnn", "run", "digits", "--run-dir", "a"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "update 24" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    text = process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 130
    assert re.search(r"stopped at update \d+; to go on: bnrnn run digits --run-dir a --resume\n", text)
    assert (tmp_path / "a" / "checkpoint.safetensors").exists()


def test_off_a_terminal_the_output_is_plain_lines(bnrnn: Callable[..., Answer]) -> None:
    code, text, _ = bnrnn("run", "digits", "--units", "6", "--max-updates", "30")
    assert code == 0
    assert "\x1b" not in text
    assert "\r" not in text
    assert "update 24  epoch 1  validation accuracy" in text
