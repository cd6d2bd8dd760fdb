"""Runs of readers: resumed bit for bit, evaluated, and asked questions by ``bnrnn read``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from questions import data

from bnrnn.cli import main
from bnrnn.data import babi, friends
from bnrnn.data.cloze import Cloze
from bnrnn.experiments.opened import open_run
from bnrnn.experiments.reading.model import VARIANTS
from bnrnn.experiments.reading.reader import Reader
from bnrnn.training import RunError, checkpoint
from bnrnn.training.evaluation import evaluate_statistics

Call = Callable[..., tuple[int, str, str]]
SMALL = ("--units", "6", "--batch-size", "5", "--updates", "12", "--evaluate-every", "4", "--quiet", "--device", "cpu")


@pytest.fixture
def bnrnn(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Carries out a command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(friends, "load", data)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        written = capsys.readouterr()
        return int(stop.value.code or 0), written.out, written.err

    return call


def train(bnrnn: Call, *options: str, folder: str = "run", experiment: str = "friends-cloze") -> Path:
    code, _, error = bnrnn("run", experiment, *SMALL, "--run-dir", folder, *options)
    assert code == 0, error
    return Path(folder)


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


@pytest.mark.parametrize("options", [("--variant", "bn-e-star-star"), ("--variant", "lstm", "--bucket", "3")])
def test_a_resumed_run_is_bit_for_bit_an_undisturbed_one(bnrnn: Call, options: tuple[str, ...]) -> None:
    whole = train(bnrnn, *options, folder="whole")
    train(bnrnn, *options, "--max-updates", "5", folder="parts")
    parts = train(bnrnn, *options, "--resume", folder="parts")
    assert rows(whole) == rows(parts)
    for name in ("checkpoint.safetensors", "model.safetensors"):
        one, other = (checkpoint.load(folder / name)[0] for folder in (whole, parts))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    result = json.loads((parts / "result.json").read_text())
    assert set(result["evaluation"]) == {"valid", "test"}
    assert set(result["evaluation"]["test"]) == {"batch", "population"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluate_and_report_work_as_for_every_run(bnrnn: Call, variant: str) -> None:
    folder = train(bnrnn, "--variant", variant)
    code, text, error = bnrnn("evaluate", str(folder))
    assert code == 0, error
    assert "candidate_error" in text
    found = json.loads((folder / "evaluation.json").read_text())["evaluation"]
    result = json.loads((folder / "result.json").read_text())["evaluation"]
    assert found["test"]["population"]["error"] == result["test"]["population"]["error"]
    code, text, error = bnrnn("report", str(folder), "--out", "report")
    assert code == 0, error
    assert (Path("report") / "index.html").is_file()


def test_a_run_on_other_data_is_refused(bnrnn: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    train(bnrnn, "--max-updates", "3")
    monkeypatch.setattr(friends, "load", lambda: data(train=60))
    code, _, error = bnrnn("run", "friends-cloze", *SMALL, "--run-dir", "run", "--resume")
    assert code == 2
    assert error.startswith("bnrnn: ")


def test_a_vocabulary_that_does_not_fit_a_checkpoint_is_told(bnrnn: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train(bnrnn)

    def other() -> Cloze:
        smaller = data(train=6)
        assert len(smaller.words.vocabulary) < len(data().words.vocabulary)
        return smaller

    monkeypatch.setattr(friends, "load", other)
    with pytest.raises(RunError, match=r"vocabulary of \d+ words is not the data's of \d+"):
        _ = open_run(folder).task


def spelled(item: Any, symbols: tuple[str, ...]) -> str:
    """A passage as a file, a sentence a line."""
    words = [symbols[index] for index in item.passage]
    starts = [0, *item.ends.tolist()]
    return "\n".join(" ".join(words[a:b]) for a, b in pairwise(starts))


@pytest.mark.parametrize("options", [(), ("--sentences", "2", "--longest", "4")])
def test_read_gives_the_probabilities_of_evaluate(bnrnn: Call, options: tuple[str, ...]) -> None:
    folder = train(bnrnn, *options)
    run = open_run(folder, "final", "cpu")
    part, symbols = run.task.parts["test"], run.task.data.words.vocabulary.symbols
    reader = Reader(folder)
    with evaluate_statistics(run.model, "population"):
        judged = list(run.task.answers(run.model, "test"))
    seen: list[int] = []
    for indices, questions, probabilities, attention, _ in judged:
        for place, question in enumerate(questions):
            item = part[indices[place]]
            reading = reader.read(spelled(item, symbols), " ".join(symbols[k] for k in item.question))
            expected = {symbols[k]: float(probabilities[place, k]) for k in item.candidates}
            assert dict(reading.candidates) == pytest.approx(expected, rel=1e-4, abs=1e-7)
            assert [symbols[k] for k in question.passage] == reading.passage
            weights = attention[: len(question.passage), place].tolist()
            assert reading.attention == pytest.approx(weights, rel=1e-4, abs=1e-7)
            assert reading.answer == max(expected, key=lambda name: expected[name])
        seen += indices
    assert sorted(seen) == list(range(9))
    assert seen != sorted(seen)


def test_names_go_in_and_come_out_as_names(bnrnn: Call) -> None:
    reader = Reader(train(bnrnn))
    passage = "Then Ann runs well.\nMary Smith sings. After that Smith sleeps. The cat of Ann reads."
    guessed = reader.read(passage, "@placeholder sings")
    given = reader.read(passage, "@placeholder sings", ["Ann", "Mary Smith", "Smith"])
    assert {name for name, _ in guessed.candidates} == {"Ann", "Mary Smith"}
    assert guessed == given
    assert guessed.passage[:3] == ["then", "Ann", "runs"]
    assert guessed.passage.count("Mary Smith") == 2  # the last name alone is hers
    assert guessed.known[guessed.passage.index("cat")] is False
    assert sum(guessed.attention) == pytest.approx(1, abs=1e-5)
    markers = "then @entity0 runs well .\n@entity1 sings . after that @entity1 sleeps . the cat of @entity0 reads ."
    marked = reader.read(passage, "@placeholder sings", ["Ann=@entity0", "Mary Smith=@entity1", "Smith"])
    plain = reader.read(markers, "@placeholder sings")
    assert dict(marked.candidates)["Ann"] == dict(plain.candidates)["@entity0"]
    assert marked.attention == plain.attention


def test_markers_that_the_reader_lacks_take_the_place_of_others(bnrnn: Call) -> None:
    reader = Reader(train(bnrnn))
    reading = reader.read("@entity700 runs . @entity0 sings .", "@placeholder sings")
    assert {name for name, _ in reading.candidates} == {"@entity700", "@entity0"}
    assert all(reading.known[reading.passage.index(name)] for name, _ in reading.candidates)


WRONG = [
    (" \n", "@placeholder runs", (), "passage must have words"),
    ("Ann runs.", "who runs?", ("Ann",), "question must have @placeholder once, where the answer belongs; it has 0"),
    ("Ann runs.", "@placeholder runs and @placeholder sings", ("Ann",), "it has 2"),
    ("the cat runs.", "@placeholder runs", (), "names no candidate"),
    ("Ann runs.", "@placeholder runs", ("Ann=@entity99",), "@entity99 is not known to the reader"),
    ("Ann runs.", "@placeholder runs", ("Ann=@entity1", "Bob=@entity1"), "@entity1 has two names"),
    ("Ann runs.", "@placeholder runs", tuple(f"N{k}" for k in range(9)), "the reader knows 8 markers"),
]


def test_wrong_questions_are_named(bnrnn: Call) -> None:
    reader = Reader(train(bnrnn))
    for passage, question, entities, words in WRONG:
        with pytest.raises(ValueError, match=words):
            reader.read(passage, question, entities)


def test_a_babi_reader_takes_plain_questions(bnrnn: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(task: int) -> Cloze:
        builder = babi.Builder()
        for part in ("train", "valid", "test"):
            for k in range(12):
                place = "hall" if k % 2 else "park"
                text = babi.text([f"Mary went to the {place}."], "Where is Mary?", ["hall", "park"], place)
                builder.add(part, text)
        return builder.finish("made up", ["hall", "park"])

    monkeypatch.setattr(babi, "load", load)
    folder = train(bnrnn, experiment="babi")
    Path("p.txt").write_text("Mary went to the hall. John went to the park.")
    code, text, error = bnrnn("read", str(folder), "--passage", "p.txt", "--question", "Where is Mary?")
    assert code == 0, error
    assert re.match(r"(hall|park)\n", text)
    plain = Reader(folder).read("Mary went to the hall.", "Where is Mary?")
    assert plain == Reader(folder).read("mary went to the hall .", "@placeholder is mary ?")
    assert plain.question == ["@placeholder", "is", "mary", "?"]
    assert np.isclose(sum(plain.attention), 1, atol=1e-5)


def test_the_command_prints_and_writes_a_page(bnrnn: Call) -> None:
    folder = train(bnrnn)
    Path("p.txt").write_text("Then Ann runs & sings. Then <Bob> sleeps.")
    question = ("--passage", "p.txt", "--question", "@placeholder sleeps")
    code, text, error = bnrnn("read", str(folder), *question, "--entities", "Ann", "Bob", "--html", "out/a.html")
    assert code == 0, error
    reading = Reader(folder).read(Path("p.txt").read_text(), "@placeholder sleeps", ["Ann", "Bob"])
    lines = text.splitlines()
    assert lines[0] == reading.answer
    for line, (name, probability) in zip(lines[1:], reading.candidates, strict=False):
        assert line.split() == [f"{probability:.4f}", name]
    assert "then Ann runs & sings" in text
    page = Path("out/a.html").read_text("utf-8")
    assert "runs</span>" in page
    assert "&amp;</span>" in page
    assert "&lt;</span>" in page
    assert page.count('<span style="background') == len(reading.passage)
    for name, probability in reading.candidates:
        assert f"<tr><td>{name}</td><td>{probability:.4f}</td>" in page


def test_the_figure_has_a_panel_for_each_data_set(bnrnn: Call) -> None:
    one, other = train(bnrnn), train(bnrnn, "--variant", "lstm", folder="other")
    code, text, error = bnrnn("figure", "reading", str(one), str(other), "--out", "a.svg")
    assert code == 0, error
    assert text == "a.svg\n"
    drawn = Path("a.svg").read_text("utf-8")
    for words in ("friends-cloze", "LSTM", "BN-e**", "validation", "training"):
        assert words in drawn
    assert bnrnn("figure", "reading")[0] == 2


def test_the_command_refuses_in_one_line(bnrnn: Call) -> None:
    folder = train(bnrnn)
    for arguments, words in (
        (("--passage", "none.txt", "--question", "@placeholder"), "there is no file none.txt"),
        (("--passage", "latin.txt", "--question", "@placeholder"), "latin.txt is not UTF-8"),
    ):
        Path("latin.txt").write_bytes(b"\xf6")
        code, _, error = bnrnn("read", str(folder), *arguments)
        assert code == 2
        assert error.startswith("bnrnn: ")
        assert error.count("\n") == 1
        assert words in error
    code, _, _ = bnrnn("run", "digits", "--units", "3", "--max-updates", "1", "--quiet", "--run-dir", "other")
    assert code == 0
    code, _, error = bnrnn("figure", "reading", "other")
    assert code == 2
    assert "other is a run of digits, which is no reading experiment" in error
    with pytest.raises(RunError, match="is a run of digits, which reads no passages"):
        Reader(Path("other"))
