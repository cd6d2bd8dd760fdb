"""Language-model runs that are stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.experiment import Experiment
from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask
from bnrnn.experiments.language.ptb_char import PTB_CHAR
from bnrnn.experiments.language.ptb_word import PTB_WORD_SMALL
from bnrnn.experiments.language.words import WordConfig, WordTask
from bnrnn.training import RunFolder, checkpoint
from bnrnn.training.session import Session, run


def corpus() -> Corpus:
    random = torch.Generator().manual_seed(0)
    train, valid, test = (torch.randint(5, (n,), generator=random, dtype=torch.uint8) for n in (700, 90, 130))
    return Corpus("made up", "character", train, valid, test, Vocabulary(tuple("abcde")))


CHARACTERS = CharacterConfig(units=6, length=10, batch_size=8, epochs=3)
CARRIED = CharacterConfig(units=6, length=10, batch_size=8, epochs=3, carry_state=True)
WORDS = WordConfig(units=6, steps=5, batch_size=8, epochs=1, dropout=0.3, resets=2)


@pytest.mark.parametrize(
    ("experiment", "config", "task"),
    [
        (PTB_CHAR, CHARACTERS, CharacterTask),
        (PTB_CHAR, CARRIED, CharacterTask),
        (PTB_WORD_SMALL, WORDS, WordTask),
    ],
    ids=["characters", "carried", "words"],
)
def test_a_resumed_run_is_the_undisturbed_one(experiment: Experiment, config: Any, task: Any, tmp_path: Path) -> None:
    def train(folder: Path, updates: int, resume: bool = False) -> dict[str, Any]:
        session = Session(quiet=True, device="cpu", max_updates=updates, resume=resume)
        described = experiment.describe(config)
        return run(described, lambda: task(config, corpus()), session, RunFolder(folder), "test")

    whole = train(tmp_path / "whole", 14)
    for updates in (5, 9, 14):
        parts = train(tmp_path / "parts", updates, resume=updates > 5)
    expected, _ = checkpoint.load(tmp_path / "whole/checkpoint.safetensors")
    found, _ = checkpoint.load(tmp_path / "parts/checkpoint.safetensors")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert any(name.startswith("carry/") for name in found) == (config is not CHARACTERS)
    assert parts["evaluation"] == whole["evaluation"]
    assert parts["selected"] == whole["selected"]
