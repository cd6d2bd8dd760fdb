"""Framewise classification from a Kaldi directory: model, task, runs, posteriors, command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.kaldi_data import generate

import bnrnn
from bnrnn.cli import main
from bnrnn.data.kaldi.archive import items, parse_address, read, write_integers
from bnrnn.data.speech import tensors
from bnrnn.experiments.opened import open_run
from bnrnn.experiments.speech.config import KaldiConfig, SpeechConfig
from bnrnn.experiments.speech.model import FrameClassifier
from bnrnn.experiments.speech.posteriors import IMPOSSIBLE, Scorer
from bnrnn.experiments.speech.spoken_digits import SPOKEN_DIGITS
from bnrnn.experiments.speech.task import SpeechTask
from bnrnn.experiments.speech.wsj import build, held_out

SMALL = {"layers": 2, "units": 6, "batch_size": 8, "epochs": 1, "worker": False, "hold_out": 4, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """48 utterances, 5 dimensions (15 with deltas), 7 targets."""
    return generate(tmp_path_factory.mktemp("kaldi"), 48, 40, 10, 7, 5)


def config(made: tuple[Path, Path], **options: object) -> KaldiConfig:
    return KaldiConfig(data=str(made[0]), alignments=str(made[1]), **{**SMALL, **options})  # pyright: ignore


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def run_words(made: tuple[Path, Path], folder: Path, *more: object) -> list[object]:
    options = {**SMALL, "evaluate_every": 3, "population_batches": 0}
    words = [w for n, v in options.items() for w in ([f"--{n.replace('_', '-')}", v] if n != "worker" else [])]
    return ["run", "wsj", "--data", made[0], "--alignments", made[1], "--run-dir", folder, "--no-worker", *words,
            "--threads", 1, "--quiet", *more]  # fmt: skip


@pytest.mark.parametrize("norm", ["none", "input-sequence"])
def test_the_model_is_the_papers(norm: str) -> None:
    model = FrameClassifier(SpeechConfig(norm=norm), 123, 3546)  # pyright: ignore
    assert (model.rnn.num_layers, model.rnn.hidden_size, model.rnn.bidirectional) == (5, 250, True)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert not parameter.any()
        elif name.startswith("rnn.weight"):
            for gate in parameter.split(250):
                bound = math.sqrt(6 / (250 + gate.shape[1]))
                assert gate.abs().max() <= bound
                assert gate.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert model.readout.weight.shape == (3546, 500)
    sites = [name for name, _ in model.named_parameters() if "gamma" in name or "norm_" in name]
    assert bool(sites) == (norm != "none")
    assert all("input" in name for name in sites)


@pytest.mark.parametrize("norm", ["none", "input-sequence", "input-frame", "recurrent"])
def test_a_batch_has_the_loss_of_its_utterances_weighted_by_frames(made: tuple[Path, Path], norm: str) -> None:
    """At the paper's depth and width, in eval mode; and garbage in the padding changes nothing."""
    task = build(config(made, norm=norm, layers=5, units=250))
    model, part = task.model, task.parts["train"]
    if norm != "none":
        bnrnn.estimate_population_statistics(model, task.population_batches())
    model.eval()
    indices = [0, 5, 7, 11]
    with torch.no_grad():
        batch = tensors(part.batch(indices))
        whole, right = model(**batch)
        each = [model(**tensors(part.batch([index]))) for index in indices]
        steps = torch.arange(len(batch["features"])).unsqueeze(1)
        batch["features"][steps >= batch["lengths"]] = 1e6
        dirty, _ = model(**batch)
    frames = part.lengths[indices]
    alone = sum(loss.item() * t for (loss, _), t in zip(each, frames, strict=True)) / frames.sum()
    assert whole.item() == pytest.approx(alone, rel=1e-5)
    assert right.item() == sum(correct.item() for _, correct in each)
    assert dirty.item() == whole.item()


def test_the_loss_is_by_frame_or_by_utterance(made: tuple[Path, Path]) -> None:
    frame, sequence = (build(config(made, loss=loss)) for loss in ("frame", "sequence"))
    batch = frame.batch(0, 0)
    a, b = (task.loss(task.model, batch, {}) for task in (frame, sequence))
    logits = frame.model(batch["features"], batch["lengths"]).exp().log()
    valid = torch.arange(len(batch["features"])).unsqueeze(1) < batch["lengths"]
    by_hand = torch.nn.functional.nll_loss(logits[valid], batch["targets"][valid])
    assert a.loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert b.loss.item() == pytest.approx(by_hand.item() * int(valid.sum()) / len(batch["lengths"]), rel=1e-5)
    assert a.metrics["fce"].item() == pytest.approx(b.metrics["fce"].item())
    wrong = (logits.argmax(-1) != batch["targets"])[valid].float().mean()
    assert a.metrics["fer"].item() == pytest.approx(wrong.item(), abs=1e-6)


def test_evaluation_weights_by_frames_and_batches_do_not_matter(made: tuple[Path, Path]) -> None:
    found = []
    for size in (1, 5, 12):
        task = build(config(made, evaluation_batch_size=size))
        task.model.eval()
        with torch.no_grad():
            found.append(task.evaluate(task.model, "valid", "population"))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)
    assert set(found[0]) == {"fce", "fer"}


def test_evaluation_batches_are_full_for_their_statistics(made: tuple[Path, Path]) -> None:
    task = build(config(made, norm="input-sequence", evaluation_batch_size=6))
    asked: list[int] = []
    inner = task.loader.batches

    def batches(part: str, plan: list[np.ndarray]) -> object:
        asked.extend(map(len, plan))
        return inner(part, plan)

    task.loader.batches = batches  # pyright: ignore
    with torch.no_grad(), bnrnn.batch_statistics(task.model.eval()):
        task.evaluate(task.model, "valid", "batch")
    assert sum(asked) == len(task.parts["valid"].names)
    assert task.rows("valid", "batch") == 6
    assert set(asked) <= {5, 6}


def test_batches_are_functions_of_epoch_and_position(made: tuple[Path, Path]) -> None:
    task = build(config(made))
    walked = {(0, 3): task.batch(0, 3), (0, 4): task.batch(0, 4), (1, 0): task.batch(1, 0), (0, 1): task.batch(0, 1)}
    again = build(config(made))
    for place, batch in walked.items():
        found = again.batch(*place)
        assert all(torch.equal(found[name], batch[name]) for name in batch)
    assert task.epoch_length(0) == task.epoch_length(7)
    assert task.loss(task.model, walked[0, 3], {}).metrics["waiting"] >= 0


def test_development_utterances_are_held_out_by_name(made: tuple[Path, Path]) -> None:
    task = build(config(made))
    train, valid = (set(task.parts[part].names) for part in ("train", "valid"))
    assert not train & valid
    assert len(train | valid) == 48
    assert all(held_out(name, 4) for name in valid)
    other = build(config(made, valid_data=str(made[0]), valid_alignments=str(made[1])))
    assert len(other.parts["train"].names) == len(other.parts["valid"].names) == 48
    assert set(other.sources) == {"train ali.gz", "valid ali.gz", "train", "valid"}


def test_a_target_of_development_beyond_the_softmax_is_named(made: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = dict(items(made[1], "integers"))
    name = next(iter(arrays))
    write_integers(tmp_path / "ali", {**arrays, name: arrays[name] + 7})
    with pytest.raises(ValueError, match=rf"utterance {name} in .*ali: target \d+ lies beyond the softmax of 7"):
        build(config(made, valid_data=str(made[0]), valid_alignments=str(tmp_path / "ali")))
    task = build(config(made, valid_data=str(made[0]), valid_alignments=str(tmp_path / "ali"), skip_bad=True))
    assert task.facts["valid"]["left_out"] == {"targets beyond the softmax": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum must be in"),
        ({"zoneout": -0.1}, "zoneout must be in"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"max_padding": 1.5}, "max_padding must be in"),
        ({"rewrite": "x"}, "rewrite must be OLD=NEW"),
        ({"norm": "recurrent", "batch_size": 1}, "batch_size must be at least 2"),
        ({"valid_alignments": "x"}, "valid_alignments needs valid_data"),
        ({"batch_size": 1000}, "batch_size must be at most"),
        ({"data": ""}, "data must be given"),
    ],
)
def test_options_that_cannot_be(made: tuple[Path, Path], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(replace(config(made), **options))  # pyright: ignore


def test_dropout_zoneout_and_bfloat16_train(made: tuple[Path, Path]) -> None:
    task = build(config(made, norm="input-sequence", dropout=0.2, recurrent_dropout=0.1, zoneout=0.1))
    batch = task.batch(0, 0)
    optimizer = task.optimizer()
    task.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        step = task.loss(task.model, batch, {})
        other = task.loss(task.model, batch, {})
    assert step.loss.item() != other.loss.item()
    step.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in task.model.parameters() if p.grad is not None)
    optimizer.step()


def test_a_run_learns_resumes_evaluates_and_scores(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    words = ["--norm", "input-sequence", "--epochs", 6]
    assert command(*run_words(made, whole, *words)) == 0
    assert command(*run_words(made, halves, *words, "--max-updates", 7)) == 0
    assert command(*run_words(made, halves, *words, "--resume")) == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, halves)]
    assert results[0]["evaluation"] == results[1]["evaluation"]
    assert set(results[0]["evaluation"]) == {"train", "valid"}
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    curve = [row["fce"] for row in rows if row["kind"] == "evaluation" and row["statistics"] == "population"]
    assert curve[0] > 1.8
    assert curve[-1] < 0.9 * curve[0]
    training = [row for row in rows if row["kind"] == "train"]
    assert all({"fce", "fer", "waiting"} <= set(row) for row in training)
    described = json.loads((whole / "config.json").read_text())["report"]
    assert (described["headline"], described["statistics"], described["figure"]) == ("fce", "population", "wsj")
    assert "development is a share of the training part" in described["comparable"]
    facts = json.loads((whole / "environment.json").read_text())[0]["data"]
    assert facts["train"]["utterances"] + facts["valid"]["utterances"] == 48
    assert facts["padding"] <= 0.05

    assert command("evaluate", whole, "--device", "cpu") == 0
    assert "fer" in capsys.readouterr().out

    ark, scp = tmp_path / "out.ark", tmp_path / "out.scp"
    assert command("posteriors", whole, "--data", made[0], "--out", f"ark,scp:{ark},{scp}", "--device", "cpu") == 0
    lines = [line.split() for line in scp.read_text().splitlines()]
    assert [name for name, _ in lines] == [line.split()[0] for line in (made[0] / "feats.scp").read_text().splitlines()]
    scorer = Scorer(open_run(whole, "final", "cpu"))
    targets = dict(items(made[1], "integers"))
    right = 0
    for name, place in lines:
        posteriors = read(parse_address(place))
        assert posteriors.shape == (len(targets[name]), 7)
        np.testing.assert_allclose(np.exp(posteriors.astype(np.float64)).sum(1), 1, rtol=1e-5)
        right += int((posteriors.argmax(1) == targets[name]).sum())
    frames = sum(map(len, targets.values()))
    judged = results[0]["evaluation"]
    total = {part: sum(len(targets[n]) for n in build(config(made)).parts[part].names) for part in ("train", "valid")}
    wrong = sum(judged[part]["population"]["fer"] * total[part] for part in total)
    assert frames - right == pytest.approx(wrong, abs=0.51)

    assert command(
        "posteriors", whole, "--data", made[0], "--out", f"ark:{tmp_path}/scaled.ark", "--divide-by-priors",
        "--device", "cpu"
    ) == 0  # fmt: skip
    counts = build(config(made)).parts["train"].counts()
    priors = np.log(counts / counts.sum())
    name, scaled = next(items(tmp_path / "scaled.ark"))
    np.testing.assert_allclose(scaled, read(parse_address(dict(lines)[name])) - priors, atol=1e-4)
    scorer.priors[3] = -math.inf
    from bnrnn.data.kaldi.directory import KaldiDirectory, Reading
    from bnrnn.data.kaldi.findings import Findings

    features = KaldiDirectory(made[0], Reading(), Findings()).features(name)
    assert (scorer(features, True)[:, 3] == np.float32(IMPOSSIBLE)).all()


def test_posteriors_name_bad_utterances_or_leave_them_out(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert command(*run_words(made, run, "--max-updates", 1)) == 0
    data = tmp_path / "data"
    data.mkdir()
    for file in made[0].iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    with (data / "feats.scp").open("a") as stream:
        stream.write("zz feats.ark:99999999\n")
    words = ["posteriors", run, "--data", data, "--out", f"ark:{tmp_path}/x.ark", "--device", "cpu"]
    capsys.readouterr()
    assert command(*words) == 2
    assert "utterance zz in" in capsys.readouterr().err
    assert command(*words, "--skip-bad") == 0
    assert "48 utterances, 7 targets each frame; left out: 1 unusable features" in capsys.readouterr().err
    assert command(*words[:-3], f"ark:gzip > {tmp_path}/x.gz |") == 2
    assert command("posteriors", run, "--data", data, "--out", f"ark:{tmp_path}/x.ark", "--deltas", 1) == 2


def test_data_check_says_what_a_directory_holds_and_what_disagrees(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("data", "check", made[0], "--alignments", made[1]) == 0
    shown = capsys.readouterr().out
    assert "utterances  48 listed, 48 good" in shown
    assert "dimensions  15" in shown
    assert "targets     7 (integers), 7 of them occur; 48 utterances" in shown
    assert "disagree    nothing" in shown
    arrays = dict(items(made[1], "integers"))
    names = list(arrays)
    changed = {**arrays, names[0]: arrays[names[0]][1:], "stranger": arrays[names[1]]}
    del changed[names[2]]
    write_integers(tmp_path / "ali", changed)
    assert command("data", "check", made[0], "--alignments", tmp_path / "ali") == 1
    shown = capsys.readouterr().out
    assert "1 utterances with features have no targets, 1 the reverse" in shown
    assert f"wrong       utterance {names[0]} in" in shown
    assert "disagree    1 other lengths" in shown
    data = tmp_path / "data"
    data.mkdir()
    for file in made[0].iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    lengths = (data / "utt2num_frames").read_text()
    (data / "utt2num_frames").write_text(lengths.replace(f"{names[0]} ", f"{names[0]} 9"))
    assert command("data", "check", data) == 1
    assert "and utt2num_frames says 9" in capsys.readouterr().out
    assert command("data", "check", made[0]) == 0
    assert "speakers    3" in capsys.readouterr().out


@pytest.mark.real_data
def test_spoken_digits_are_split_by_the_sets_own_rule() -> None:
    task = SPOKEN_DIGITS.build(replace(SPOKEN_DIGITS.config, layers=1, units=4, worker=False))
    assert isinstance(task, SpeechTask)
    train, valid = task.parts["train"], task.parts["valid"]
    assert (len(train.names), len(valid.names)) == (900, 100)
    assert train.frames + valid.frames == 34_902
    assert all(int(name.split("_")[2]) < 5 for name in valid.names)
    assert (train.dimensions, train.classes) == (123, 70)
    assert set(task.sources) == {
        "fsdd/fsdd-26eb9aaf.tar.xz", "kaldi/digits/ali/ali.1.gz", "kaldi/digits/ali/final.mdl", "train", "valid"
    }  # fmt: skip
    assert task.model.priors.sum().item() == pytest.approx(1, abs=1e-5)
