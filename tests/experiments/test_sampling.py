"""Streaming text from trained runs, and the figure of lengths."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.language.char_lm import CHAR_LM, TextConfig
from bnrnn.experiments.language.lengths import measure
from bnrnn.experiments.language.ptb_word import PTB_WORD_SMALL
from bnrnn.experiments.language.sampling import Sampler, nucleus
from bnrnn.experiments.language.words import WordConfig, WordTask
from bnrnn.figures.files import svg
from bnrnn.figures.lengths import lengths_figure
from bnrnn.training import RunError, RunFolder
from bnrnn.training.session import Session, run

TEXT = "the cat sat on the mat, the dog ate the hat; naïve ☕. " * 40


def train_characters(folder: Path, **options: object) -> Path:
    source = folder / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    config = TextConfig(text=(str(source),), units=12, length=20, batch_size=8, epochs=2, **options)  # type: ignore[arg-type]
    target = RunFolder(folder / "run")
    session = Session(quiet=True, device="cpu")
    run(CHAR_LM.describe(config), lambda: CHAR_LM.build(config), session, target, "test")
    return folder / "run"


@pytest.fixture(scope="module")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_characters(tmp_path_factory.mktemp("characters"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vocabulary = Vocabulary(("<eos>", "<unk>", "a", "cat", "sat"), unknown="<unk>")
    random = torch.Generator().manual_seed(0)
    parts = [torch.randint(5, (n,), generator=random, dtype=torch.uint8) for n in (300, 100, 100)]
    corpus = Corpus("made up", "word", parts[0], parts[1], parts[2], vocabulary)
    config = WordConfig(units=8, steps=5, batch_size=4, epochs=1)
    folder = tmp_path_factory.mktemp("words") / "run"
    session = Session(quiet=True, device="cpu")
    run(PTB_WORD_SMALL.describe(config), lambda: WordTask(config, corpus), session, RunFolder(folder), "test")
    return folder


def test_the_same_seed_gives_the_same_text(characters: Path) -> None:
    sampler = Sampler(characters)
    first = "".join(sampler.stream("the ", 60, seed=1))
    assert len(first) == 60
    assert "".join(sampler.stream("the ", 60, seed=1)) == first
    assert "".join(Sampler(characters).stream("the ", 60, seed=1)) == first
    assert "".join(sampler.stream("the ", 60, seed=2)) != first
    assert "".join(itertools.islice(sampler.stream("the ", seed=1), 60)) == first
    greedy = "".join(sampler.stream("the ", 30, temperature=0.0, seed=1))
    assert greedy == "".join(sampler.stream("the ", 30, temperature=0.0, seed=2))


def test_a_stream_is_the_whole_sequence_in_steps(characters: Path) -> None:
    """Greedy symbols are the ones that one call on the whole text gives, beyond the training length as well."""
    sampler = Sampler(characters)
    text = "the cat" + "".join(sampler.stream("the cat", 40, temperature=0.0, unknown=True))
    tokens = sampler.vocabulary.encode(text).long()
    with torch.no_grad():
        logits, _ = sampler.model(tokens[:, None])
    assert isinstance(logits, torch.Tensor)
    assert sampler.vocabulary.decode(logits[6:-1, 0].argmax(-1)) == list(text[7:])


def test_words(words: Path) -> None:
    sampler = Sampler(words)
    drawn = list(sampler.stream("a cat", 50, seed=1))
    assert set(drawn) <= {"\n", "a ", "cat ", "sat "}
    assert "<unk> " in set(sampler.stream("a dog", 100, seed=1, unknown=True))
    assert sampler.encode("a dog\nsat") == [2, 1, 0, 4]
    assert sampler.encode("") == [0]
    prompt = "a cat sat a cat sat a"
    drawn = list(sampler.stream(prompt, 9, temperature=0.0, unknown=True))
    tokens = torch.tensor(sampler.encode(f"{prompt} {''.join(drawn)}"))
    with torch.no_grad():  # statistics belong to positions in the window
        logits, _ = sampler.model(tokens[:, None], window=5)
    assert isinstance(logits, torch.Tensor)
    assert logits[6:-1, 0].argmax(-1).tolist() == tokens[7:].tolist()


def test_unknown_characters_are_read_and_not_drawn(characters: Path) -> None:
    sampler = Sampler(characters)
    assert sampler.encode("日")[0] == sampler.vocabulary.index["\ufffd"]
    assert "\ufffd" not in "".join(sampler.stream("日本", 200, temperature=5.0))


def test_an_unfinished_run_can_be_sampled(characters: Path, tmp_path: Path) -> None:
    for name in ("config.json", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes((characters / name).read_bytes())
    assert len(list(Sampler(tmp_path).stream("the", 5))) == 5


def test_the_likeliest_symbols_by_number_and_by_share() -> None:
    p = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    assert nucleus(p, None, None).tolist() == pytest.approx(p.tolist())
    assert nucleus(p, 2, None).tolist() == pytest.approx([0, 0.4, 0, 0.3, 0])
    assert nucleus(p, 9, None).tolist() == pytest.approx(p.tolist())
    assert nucleus(p, None, 0.39).tolist() == pytest.approx([0, 0.4, 0, 0, 0])
    assert nucleus(p, None, 0.41).tolist() == pytest.approx([0, 0.4, 0, 0.3, 0])
    assert nucleus(p, None, 0.71).tolist() == pytest.approx([0, 0.4, 0, 0.3, 0.15])
    assert nucleus(p, 3, 0.5).tolist() == pytest.approx([0, 0.4, 0, 0.3, 0])  # .4 is less than half of the three's .85
    assert nucleus(torch.tensor([0.25] * 4), 2, None).tolist() == [0.25, 0.25, 0, 0]


def test_draws_among_the_likeliest_only(characters: Path) -> None:
    sampler = Sampler(characters)
    greedy = "".join(sampler.stream("the ", 30, temperature=0.0))
    assert "".join(sampler.stream("the ", 30, temperature=3.0, seed=1, top_k=1)) == greedy
    assert "".join(sampler.stream("the ", 30, temperature=3.0, seed=1, top_p=1e-6)) == greedy
    free = "".join(sampler.stream("the ", 30, temperature=3.0, seed=1))
    assert free != greedy
    assert "".join(sampler.stream("the ", 30, temperature=3.0, seed=1, top_k=1000)) == free
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        sampler.stream("a", 5, top_k=0)
    with pytest.raises(ValueError, match=r"top_p must be in \(0, 1\], got 1.5"):
        sampler.stream("a", 5, top_p=1.5)


def test_bad_calls_are_refused(characters: Path, tmp_path: Path) -> None:
    sampler = Sampler(characters)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        sampler.stream("a", 0)
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        sampler.stream("a", 5, temperature=-1.0)
    with pytest.raises(RunError, match="not a run folder"):
        Sampler(tmp_path / "absent")
    config = json.loads((characters / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="no checkpoint yet"):
        Sampler(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes((characters / "checkpoint.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "experiment": "digits", "config": {"units": 5}}))
    with pytest.raises(RunError, match="digits, which is no language model"):
        Sampler(tmp_path)


def test_a_run_does_not_go_on_with_another_text(tmp_path: Path) -> None:
    folder = train_characters(tmp_path, whole_test=False)
    source = tmp_path / "text.txt"
    text = source.read_text(encoding="utf-8")
    config = CHAR_LM.restore(json.loads((folder / "config.json").read_text()))
    session = Session(quiet=True, device="cpu", resume=True)

    def go_on() -> None:
        run(CHAR_LM.describe(config), lambda: CHAR_LM.build(config), session, RunFolder(folder), "test")

    source.write_text(text.replace("cat", "act"), encoding="utf-8")  # the same characters
    with pytest.raises(RunError, match=r"1\. text\.txt: not the data that the run in .* was trained on"):
        go_on()
    source.write_text(text.replace("naïve", "naive"), encoding="utf-8")
    (folder / "sources.json").unlink()  # as of a version that kept no digests
    with pytest.raises(RunError, match=r"its vocabulary of .* is not the text's"):
        go_on()


def test_lengths_are_measured_and_drawn(characters: Path, words: Path) -> None:
    lines: list[str] = []
    record = measure(characters, (10, 20, 40), "cpu", lines.append)
    assert json.loads((characters / "lengths.json").read_text()) == record
    assert set(record["bpc"]) == {"population", "batch"}
    assert len(lines) == 6
    result = json.loads((characters / "result.json").read_text())["evaluation"]["test"]
    for kind in ("population", "batch"):
        assert record["bpc"][kind][1] == pytest.approx(result[kind]["bpc"], rel=1e-5)
    figure = lengths_figure([("ours", record)], "ours")
    assert len(figure.axes[0].lines) == 2
    assert svg(figure, "ours").startswith("<svg")
    with pytest.raises(ValueError, match="lengths must be 2 to"):
        measure(characters, (10_000,), "cpu", lines.append)


def test_the_command_streams_text(characters: Path) -> None:
    command = [sys.executable, "-m", "bnrnn", "sample", str(characters), "--prompt", "the ", "--length", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.startswith("the ")
    assert len(done.stdout.rstrip("\n")) >= 20
    failed = subprocess.run([*command, "--temperature", "-1"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
