"""Every kind of task in two processes, each with its rows of every batch: gradients and metrics are those of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.kaldi_data import generate
from reading.questions import data
from torch import Tensor

import bnrnn
import processes as run
from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask
from bnrnn.experiments.language.words import WordConfig, WordTask
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.experiments.pixels.task import PixelTask
from bnrnn.experiments.reading.config import ReadingConfig
from bnrnn.experiments.reading.task import ReadingTask
from bnrnn.experiments.speech.config import KaldiConfig
from bnrnn.experiments.speech.wsj import build
from bnrnn.training import processes
from bnrnn.training.evaluation import evaluate


def corpus() -> Corpus:
    random = torch.Generator().manual_seed(0)
    parts = [torch.randint(5, (n,), generator=random, dtype=torch.uint8) for n in (400, 90, 130)]
    return Corpus("made up", "character", *parts, Vocabulary(tuple("abcde"), None))


CHARACTERS = CharacterConfig(
    norm="recurrent", units=4, length=6, batch_size=7, evaluation_batch_size=4, population_batch_size=30
)


def tasks(folder: Path) -> dict[str, Any]:
    pixels = PixelConfig(units=4, batch_size=7, evaluation_batch_size=2000, population_batch_size=2000)
    speech = KaldiConfig(
        data=str(folder / "data"), alignments=str(folder / "ali.gz"), norm="sequence-input", layers=1, units=4,
        batch_size=7, evaluation_batch_size=9, hold_out=3, worker=False, population_batches=2,
    )  # fmt: skip
    reading = ReadingConfig(
        variant="bn-e-star", units=4, learning_rate=0.01, bidirectional=True, mean_passage=True, batch_size=5,
        updates=3, dropout=0.0, evaluation_batch_size=6,
        population_batch_size=6, population_batches=2,
    )  # fmt: skip
    return {
        "pixels": PixelTask(replace(pixels, initial_state="noise"), "digits", "scan"),
        "characters": CharacterTask(CHARACTERS, corpus(), test_lengths=(20,)),
        "characters carried on": CharacterTask(replace(CHARACTERS, carry_state=True), corpus()),
        "words": WordTask(WordConfig(units=4, steps=5, batch_size=5, probability_floor=1e-3), corpus()),
        "reading": ReadingTask(reading, data(train=17, valid=13)),
        "speech by frames": build(replace(speech, loss="frame")),
        "speech by utterances": build(replace(speech, loss="sequence")),
    }


def outcome(task: Any) -> dict[str, Any]:
    """Of two updates' losses, the second with what the first has left, and of an evaluation."""
    model, carry = task.model.double(), processes.cut(task.start(0))
    carry = {name: value.double() for name, value in carry.items()}
    if processes.world() > 1:
        bnrnn.synchronize(model)
    gradients, metrics = [], []
    for position in (0, 1):
        torch.manual_seed(position)
        step = task.loss(model.train(), processes.cut(task.batch(0, position), task.batch_first), carry)
        model.zero_grad()
        processes.scaled(step.loss, step.count).backward()
        processes.sum_gradients(model)
        carry = step.carry
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        metrics.append({name: float(value) for name, value in step.metrics.items() if name != "waiting"})
    part = task.plan.parts[-1]
    return {
        "gradients": gradients,
        "carry": processes.joined(carry),
        "metrics": metrics,
        "evaluation": evaluate(task, model, [part], ["batch", "population"], torch.device("cpu"))[part],
    }


def work(rank: int, world: int, folder: Path) -> dict[str, Any]:
    return {name: outcome(task) for name, task in tasks(folder).items()}


NAMES = (
    "pixels",
    "characters",
    "characters carried on",
    "words",
    "reading",
    "speech by frames",
    "speech by utterances",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("kaldi")
    generate(folder, 30, 12, 6, 5, 3)
    parts = run.run(work, 2, tmp_path_factory.mktemp("found"), folder)
    return {name: outcome(task) for name, task in tasks(folder).items()}, parts


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one(name: str, found: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    whole, parts = found[0][name], [part[name] for part in found[1]]
    for part in parts:
        same(part, whole)
    assert "evaluation" in whole


def same(part: Any, whole: Any) -> None:
    """As equal as float64 makes it; accuracies are told in float32."""
    if isinstance(whole, dict):
        assert part.keys() == whole.keys()
        for name, value in whole.items():
            same(part[name], value)
    elif isinstance(whole, list):
        for a, b in zip(part, whole, strict=True):
            same(a, b)
    elif isinstance(whole, Tensor):
        torch.testing.assert_close(part, whole, rtol=1e-8, atol=1e-10)
    else:
        assert part == pytest.approx(whole, rel=1e-6, abs=1e-10)
