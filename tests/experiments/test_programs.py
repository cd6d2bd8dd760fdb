"""A run as a Python object and as a program in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.experiments.programs import KINDS, LETTERS, RAW, RESULT, WORDS, write
from torch import Tensor

import bnrnn
from bnrnn.cli import main
from bnrnn.data import digits, mnist
from bnrnn.experiments import exporting
from bnrnn.experiments.language.sampling import Sampler
from bnrnn.experiments.pixels.task import pixel_order
from bnrnn.experiments.pixels.trained import PIXELS
from bnrnn.experiments.reading.reader import Reader
from bnrnn.training import RunError

pytestmark = pytest.mark.usefixtures("unchecked")  # compilers cannot look through type checks


@pytest.fixture
def without_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BNRNN_DATA", str(tmp_path / "nowhere"))


def answer(run: Any, kind: str) -> tuple[Tensor, ...]:
    found = run(*RAW[kind])
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.usefixtures("without_data")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_loaded_without_its_data(kind: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run = bnrnn.load_run(write(kind, tmp_path / "run"))
    torch.manual_seed(0)
    torch.set_rng_state(before)
    run = bnrnn.load_run(str(tmp_path / "run"))
    assert torch.equal(torch.get_rng_state(), before)
    assert not run.model.training
    assert not run.program.training
    assert (run.experiment.name, run.update, run.metrics) == (KINDS[kind][0], 12, RESULT)
    assert run.config.units == 6
    assert all(torch.equal(run.parameters[name], value) for name, value in run.model.state_dict().items())
    assert all(torch.isfinite(value).all() for value in answer(run, kind))
    assert (
        repr(run) == f"<{KINDS[kind][0]} {run.experiment.label(run.config)} in {tmp_path / 'run'}, model of update 12>"
    )


def test_what_a_classifier_says_is_what_its_experiment_shows_it(tmp_path: Path) -> None:
    run = bnrnn.load_run(write("pixels of MNIST", tmp_path / "run"))
    (images,) = RAW["pixels of MNIST"]
    with torch.no_grad():
        expected = run.model((images.float() / 255)[:, pixel_order("permuted", 784)])
    torch.testing.assert_close(run(images), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(run(images.view(2, 28, 28).numpy()), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(run(images.float() / 255), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"images must have 784 pixels, got shape \(2, 64\)"):
        run(torch.zeros(2, 64))


def test_the_noise_of_an_initial_state_is_left_out(tmp_path: Path) -> None:
    run = bnrnn.load_run(write("pixels", tmp_path / "run"))
    (pixels,) = run.encode(*RAW["pixels"])
    first, second = (run.model.initial_state(pixels)[0] for _ in range(2))
    assert not torch.equal(first, second)
    still, _ = run.program.model.initial_state(pixels)
    assert torch.equal(still[0], run.model.h0.expand(2, -1))
    assert torch.equal(run(*RAW["pixels"]), run(*RAW["pixels"]))


def test_image_sizes_are_the_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    images = digits.load()
    assert PIXELS["digits"] == (images.train_images.shape[1], images.maximum)
    assert PIXELS["mnist"] == (28 * 28, 255)
    assert "maximum" not in Path(mnist.__file__).read_text()


def test_what_a_language_model_says(tmp_path: Path) -> None:
    run = bnrnn.load_run(write("characters", tmp_path / "run"))
    assert run.vocabulary == LETTERS
    tokens = run.encode("a bad café")[0]
    assert tokens.shape == (10, 1)
    assert [LETTERS.symbols[i] for i in tokens[:, 0]] == [*"a bad ca", "\ufffd", "é"]
    with torch.no_grad():
        torch.testing.assert_close(run("a bad café"), run.model(tokens)[0], rtol=1e-5, atol=1e-6)
    assert run(["abc", "eea"]).shape == (3, 2, 8)
    for wrong in ("", [], ["ab", "a"]):
        with pytest.raises(ValueError, match="text must have symbols"):
            run(wrong)


def test_a_word_model_goes_on_from_window_to_window(tmp_path: Path) -> None:
    run = bnrnn.load_run(write("words", tmp_path / "run"))
    assert run.vocabulary == WORDS
    tokens, *state = run.encode("a cat\nsat a dog a cat sat a")
    assert tokens.shape == (10, 1)
    found = []
    with torch.no_grad():
        for start in (0, 5):
            logits, *state = run.program(tokens[start : start + 5], *state)
            found.append(logits)
        expected, final = run.model(tokens, window=5)
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-5, atol=1e-6)
    for ours, wanted in zip(state, final, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)
    assert Sampler(tmp_path / "run").encode("a cat") == tokens[:2, 0].tolist()


@pytest.mark.parametrize("kind", ["reader", "reader, one direction"])
def test_what_a_reader_says(kind: str, tmp_path: Path) -> None:
    run = bnrnn.load_run(write(kind, tmp_path / "run"))
    logits, attention = run(*RAW[kind])
    reading = Reader(tmp_path / "run").read(*RAW[kind])
    assert reading.attention == pytest.approx(attention[:, 0].tolist(), abs=1e-6)
    assert reading.word[1] == pytest.approx(float(logits.softmax(1).max()), abs=1e-6)
    with pytest.raises(ValueError, match="must have words"):
        run("", "@placeholder sings")


def test_what_a_speech_network_says(tmp_path: Path) -> None:
    run = bnrnn.load_run(write("speech", tmp_path / "run"))
    features, lengths = run.encode(*RAW["speech"])
    assert (features.shape, lengths.tolist()) == ((9, 2, 5), [9, 4])
    scores = run(*RAW["speech"])
    torch.testing.assert_close(run(torch.zeros(4, 5))[:, 0], scores[:4, 1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(9, 2))
    with pytest.raises(ValueError, match=r"shape \(T, 5\) each, got \[\(4, 6\)\]"):
        run([torch.zeros(4, 6)])


def test_an_unfinished_run_has_no_metrics_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    assert bnrnn.load_run(write("pixels", tmp_path / "run", finished=False)).metrics == {}
    with pytest.raises(RunError, match="is not a run folder"):
        bnrnn.load_run(tmp_path)
    write("words", tmp_path / "words")
    (tmp_path / "run" / "model.safetensors").write_bytes((tmp_path / "words" / "model.safetensors").read_bytes())
    with pytest.raises(RunError, match="does not fit its config"):
        bnrnn.load_run(tmp_path / "run")


OPEN = """
import sys, torch
import bnrnn
for place in sys.argv[1:]:
    program = torch.export.load(place + ".pt2").module()
    given, expected = torch.load(place + ".pt")
    found = program(*given)
    for ours, wanted in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
assert "bnrnn.experiments" not in sys.modules
"""


def test_programs_of_torch_open_in_a_fresh_process(tmp_path: Path) -> None:
    """For other sizes than they were traced with."""
    places = []
    for kind in KINDS:
        run = bnrnn.load_run(write(kind, tmp_path / kind))
        place = str(tmp_path / f"{kind} program")
        assert exporting.export_torch(run, Path(f"{place}.pt2")) < 1e-5
        given = run.encode(*RAW[kind])
        torch.save((given, answer(run, kind)), f"{place}.pt")
        places.append(place)
    done = subprocess.run([sys.executable, "-c", OPEN, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["pixels", "characters", "words", "reader", "reader, one direction", "speech"])
def test_onnx_programs(kind: str, tmp_path: Path) -> None:
    run = bnrnn.load_run(write(kind, tmp_path / "run"))
    assert exporting.export_onnx(run, tmp_path / "run.onnx") < 1e-5


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def command(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["export", *map(str, words)])
        written = capsys.readouterr()
        return int(stop.value.code or 0), written.out, written.err

    folder = write("words, GRU", tmp_path / "run")
    files = tmp_path / "new" / "m.onnx", tmp_path / "m.pt2"
    code, text, error = command(folder, "--onnx", files[0], "--torch", files[1])
    assert code == 0, error
    lines = text.splitlines()
    assert lines[0] == "inputs   tokens (free: steps, batch), h_0 (free: batch)"
    assert lines[1] == "outputs  logits, h_n"
    assert [line.partition(": ")[0] for line in lines[2:]] == [
        str(tmp_path / "new" / "m.onnx"),
        str(tmp_path / "m.pt2"),
    ]
    assert all("largest difference to the run" in line for line in lines[2:])
    assert all(file.is_file() for file in files)
    assert command(folder)[0] == 2
    assert "nowhere is not a run folder" in command("nowhere", "--torch", tmp_path / "m.pt2")[2]
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    code, _, error = command(folder, "--torch", tmp_path / "m.pt2")
    assert code == 2
    assert "its numbers differ from the run's by" in error
