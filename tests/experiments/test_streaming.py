"""Single steps against the model called on the whole text."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.language.characters import CharacterConfig
from bnrnn.experiments.language.model import LanguageModel
from bnrnn.experiments.language.sampling import steps
from bnrnn.experiments.language.words import WordConfig

SYMBOLS = Vocabulary(tuple("abcdefg"))


def trained(config: CharacterConfig | WordConfig) -> LanguageModel:
    """A model whose parameters and statistics are nothing special."""
    model = config.build_model(SYMBOLS).double()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.train()
    for _ in range(3):
        model(torch.randint(7, (5, 6)))
    return model.eval()


@pytest.mark.parametrize(
    ("cell", "norm", "embedded"),
    [
        *itertools.product(["lstm"], ["none", "recurrent", "input-frame", "summed", "layer"], [False, True]),
        ("gru", "recurrent", False),
        ("rnn", "none", False),
    ],
)
def test_steps_are_the_whole_text(cell: str, norm: str, embedded: bool) -> None:
    kind = WordConfig if embedded else CharacterConfig
    model = trained(kind(cell=cell, norm=norm, units=6))  # type: ignore[arg-type]
    text = torch.randint(7, (14,))  # beyond the five steps that have statistics of their own
    for window in (None, 4):
        with torch.no_grad():
            expected, _ = model(text[:, None], window=window)
        assert isinstance(expected, Tensor)
        step = steps(model, window)
        found = torch.stack([step(int(index)) for index in text])
        torch.testing.assert_close(found, expected[:, 0], rtol=1e-9, atol=1e-9)


def test_the_baseline_without_a_shift() -> None:
    model = trained(dataclasses.replace(CharacterConfig(units=6, norm="none"), cell_shift=False))
    text = torch.randint(7, (9,))
    with torch.no_grad():
        expected, _ = model(text[:, None])
    step = steps(model)
    found = torch.stack([step(int(index)) for index in text])
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_with_zoneout_and_dropout(cell: str) -> None:
    kept = {"zoneout": 0.2, "zoneout_cell": 0.5} if cell == "lstm" else {"zoneout": 0.2}
    config = CharacterConfig(cell=cell, units=6, layers=2, dropout=0.4, **kept)  # type: ignore[arg-type]
    model = trained(config)
    assert model.rnn.num_layers == 2
    text = torch.randint(7, (9,))
    with torch.no_grad():
        expected, _ = model(text[:, None])
    step = steps(model)
    found = torch.stack([step(int(index)) for index in text])
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-9, atol=1e-9)
    model.train()
    first, _ = model(text[:, None].repeat(1, 4))
    second, _ = model(text[:, None].repeat(1, 4))
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    assert not torch.equal(first, second)


def test_a_model_without_statistics_says_so() -> None:
    model = CharacterConfig(units=6).build_model(SYMBOLS).eval()
    with pytest.warns(UserWarning, match="population statistics were never set"):
        steps(model)
