"""The command line: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from bnrnn.cli import listing, main

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
    assert_refused(bnrnn("data", "verify", "mnist"), "damaged: mnist/train-im", "missing: mnist/train-labels")
    (tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    assert bnrnn("data", "list", "mnist")[0] == 0
    assert_refused(bnrnn("data", "verify", "mnist"), "missing: mnist/train-images-idx3-ubyte.gz, mnist/train-labels")
    (tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"short")
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
        (["run", "digits", "--threads", "100000"], ["threads must be at most", "got 100,000"]),
        (["run", "digits", "--device", "cuda"], ["device cuda is not at hand here; there is cpu"]),
        (["run", "digits", "--device", "mps"], ["device mps is not at hand here; there is cpu"]),
        (["run", "digits", "--units", "100000000"], ["not enough memory", "bytes"]),
        (["run", "digits", "--population-batch-size", "1"], ["population_batch_size must be at least 2"]),
        (["run", "digits", "--norm", "none", "--gamma", "1"], ["gamma", "'none'"]),
        (["run", "digits", "--config", "absent.toml"], ["cannot read absent.toml (No such file or directory)"]),
        (["run", "digits", "--config"], ["--config needs a value"]),
        (["run", "digits", "--init-from", "nowhere"], ["nowhere is not a run folder"]),
        (["run", "digits", "--patience", "-1"], ["patience"]),
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
        for damaged in {name, name.replace("checkpoint", "previous")}:
            (Path("b") / damaged).write_bytes(b"}" + content[: len(content) // 2] + b"\n")
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


@pytest.mark.parametrize("command", ["evaluate", "sample", "figure lengths"])
def test_a_device_that_is_not_there_is_refused(bnrnn: Callable[..., Answer], trained: Path, command: str) -> None:
    assert_refused(bnrnn(*command.split(), "a", "--device", "cuda"), "cuda")


def test_a_hangup_saves(tmp_path: Path) -> None:
    """The terminal is closed: what the process writes goes nowhere, and it saves all the same."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "bnrnn", "run", "digits", "--units", "6", "--run-dir", "a"]
    process = subprocess.Popen(
        [*command, "--checkpoint-seconds", "3600"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "80"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: (fcntl.ioctl(0, termios.TIOCSCTTY, 0), signal.signal(signal.SIGHUP, signal.SIG_DFL)),
    )
    os.close(theirs)
    seen = b""
    while b"update 24 " not in seen:
        seen += os.read(ours, 1000)
    os.close(ours)
    process.wait(60)
    content = (tmp_path / "a" / "checkpoint.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    update = json.loads(header["__metadata__"]["facts"])["update"]
    assert update >= 24
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert update >= max(json.loads(line)["update"] for line in lines)
    for line in re.split(rb"[\r\n]+", re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen)):
        assert len(line.decode(errors="replace")) <= 80, line


def test_ctrl_c_while_the_package_is_imported(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'bnrnn.nn': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import bnrnn_command\n"
        "bnrnn_command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    script = "import sys, bnrnn_command; sys.argv = ['bnrnn', '--version']; bnrnn_command.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout.startswith("bnrnn ")


def test_an_error_of_the_program_leaves_its_traceback(
    bnrnn: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError("of a kind\nthat nobody thought of")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(listing, "run", broken)
    code, text, error = bnrnn("list")
    assert (code, text, error.count("\n")) == (70, "", 1)
    assert "ZeroDivisionError: of a kind that nobody thought of; its traceback is in" in error
    trace = Path(error.split(" is in ")[1].strip()).read_text()
    assert "Traceback" in trace
    assert "in broken" in trace


def test_options_go_to_a_file_and_come_from_one(bnrnn: Callable[..., Answer]) -> None:
    run = ["run", "digits", *SMALL, "--max-updates", "2"]
    bnrnn(*run, "--norm", "none", "--no-cell-shift", "--learning-rate", "1e-5", "--run-dir", "a")
    bnrnn("run", "digits", "--config", "a/config.toml", "--max-updates", "2", "--quiet", "--run-dir", "b")
    first, second = (json.loads((Path(name) / "config.json").read_text()) for name in ("a", "b"))
    assert first == second
    bnrnn("run", "digits", "--config=a/config.toml", "--units", "5", *SMALL[2:], "--run-dir", "c")
    third = json.loads((Path("c") / "config.json").read_text())["config"]
    assert third == {**first["config"], "units": 5}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("units = 'six'", ["mine.toml: --units: invalid literal", "'six'"]),
        ("unit = 6", ["mine.toml: unrecognized options: --unit=6; perhaps you meant --units"]),
        ("units = ", ["mine.toml is no TOML file"]),
        ("[model]\nunits = 6", ["holds a table, model"]),
        ("experiment = 'smnist'", ["options of experiment smnist, not digits"]),
        ("units = 0", ["mine.toml", "units must be at least 1, got 0"]),
    ],
)
def test_a_bad_file_of_options_is_refused(bnrnn: Callable[..., Answer], content: str, words: list[str]) -> None:
    Path("mine.toml").write_text(content)
    assert_refused(bnrnn("run", "digits", "--config", "mine.toml"), *words)


def test_a_dry_run_of_a_sweep_or_a_search_names_its_trials_and_leaves_nothing(
    bnrnn: Callable[..., Answer], tmp_path: Path
) -> None:
    code, text, _ = bnrnn("sweep", "digits", "--grid", "gamma=.1,.3", "--seeds", "1-2", "--dry-run")
    assert code == 0
    assert text.splitlines()[0] == str(Path("runs/sweep-digits/gamma=.1,seed=1"))
    assert text.splitlines()[-1] == "4 trials; nothing was trained or written"
    code, text, _ = bnrnn("search", "h2h", "--draws", "3", "--dry-run")
    assert (code, text.splitlines()[-1]) == (0, "6 trials; nothing was trained or written")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(bnrnn: Callable[..., Answer]) -> None:
    code, text, _ = bnrnn("run", "digits", "--units", "6", "--max-updates", "30", "--dry-run")
    assert code == 0
    facts = dict(re.split(r": +", line, maxsplit=1) for line in text.splitlines())
    assert facts["run folder"] == "runs/digits-lstm-recurrent-seed1"
    assert facts["updates"] == "0 to 30 of 1,200"
    # 4 gates of 6 units from 1 pixel and 6 units with one bias, gains of 24, 24 and 6, the cell's 6 shifts,
    # two initial states of 6, and 10 classes
    assert facts["parameters"] == f"{24 * (1 + 6 + 1) + 24 + 24 + 6 + 6 + 6 + 6 + 10 * 7:,}"
    assert not any(Path().iterdir())
    bnrnn("run", "digits", *SMALL, "--run-dir", "a")
    before = sorted(Path("a").iterdir())
    text = bnrnn("run", "digits", *SMALL, "--run-dir", "a", "--resume", "--dry-run", "--max-updates", "50")[1]
    assert "30 to 50 of 1,200" in text
    assert sorted(Path("a").iterdir()) == before
    assert_refused(bnrnn("run", "digits", *SMALL, "--run-dir", "a", "--dry-run"), "holds a run already")
    assert_refused(bnrnn("run", "digits", "--batch-size", "5000", "--dry-run"), "batch_size must be at most 1,204")


def test_a_run_goes_on_with_other_evaluation_options(bnrnn: Callable[..., Answer]) -> None:
    bnrnn("run", "digits", *SMALL, "--run-dir", "a")
    more = ["run", "digits", *SMALL, "--max-updates", "40", "--resume", "--run-dir", "a"]
    assert bnrnn(*more, "--evaluation-batch-size", "99", "--evaluate-every", "10")[0] == 0
    rows = [json.loads(line) for line in (Path("a") / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows if row["kind"] == "evaluation"] == [0, 24, 40]
    assert rows[-1]["rows"] == 99
    entry = json.loads((Path("a") / "environment.json").read_text())[-1]
    assert entry["changed"]["evaluate_every"] == [0, 10]
    assert entry["changed"]["evaluation_batch_size"] == [50, 99]


def test_csv_has_the_metrics(bnrnn: Callable[..., Answer]) -> None:
    bnrnn("run", "digits", *SMALL, "--csv", "--run-dir", "a")
    bnrnn("run", "digits", *SMALL[:2], "--max-updates", "60", "--quiet", "--csv", "--resume", "--run-dir", "a")
    rows = [json.loads(line) for line in (Path("a") / "metrics.jsonl").read_text().splitlines()]
    wanted = [(row["update"], row["accuracy"]) for row in rows if row.get("statistics") == "batch"]
    found = []
    for version in (0, 1):
        with (Path("a") / f"csv/version_{version}/metrics.csv").open() as file:
            table = list(csv.DictReader(file))
        name = "evaluation/valid/batch/accuracy"
        found += [(int(row["step"]), float(row[name])) for row in table if row[name]]
    assert found == wanted


def test_off_a_terminal_the_output_is_plain_lines(bnrnn: Callable[..., Answer]) -> None:
    code, text, _ = bnrnn("run", "digits", "--units", "6", "--max-updates", "30")
    assert code == 0
    assert "\x1b" not in text
    assert "\r" not in text
    assert "digits lstm-recurrent-seed1: updates 0 to 30, validation accuracy\n" in text
    assert re.search(r"^update 24  epoch 1 +accuracy 0\.\d{4}  batch, [\d,]+ rows  \d+\.\d/s$", text, re.MULTILINE)
