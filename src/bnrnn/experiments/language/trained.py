"""A language model without its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import bnrnn
from bnrnn.experiments.language.characters import CharacterConfig
from bnrnn.experiments.language.model import VOCABULARY_KEY, LanguageModel, State, vocabulary_of
from bnrnn.experiments.language.words import WordConfig
from bnrnn.experiments.trained import Trained

END_OF_LINE = "<eos>"


def _read(model: LanguageModel, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    """Logits and the state after the last symbol; in one call of the layers, whatever its length."""
    x = tokens if model.embedding is None else model.embedding(tokens)
    output, final = model.rnn(x, state if isinstance(model.rnn, bnrnn.LSTM) else state[0])
    return model.readout(output), final if isinstance(final, tuple) else (final,)


class CharacterProgram(nn.Module):
    """Logits ``(T, B, V)`` of each next symbol of texts ``(T, B)``, from the learnt initial state."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return _read(self.model, tokens, self.model.start(tokens.shape[1]))[0]


class WordProgram(nn.Module):
    """Logits ``(T, B, V)`` of each next word of a window of texts ``(T, B)``, and the state to read the next one from:
    ``h_n`` and, of an LSTM, ``c_n``, both ``(layers, B, H)``. Statistics belong to positions in the window.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, h_0: Tensor, c_0: Tensor | None = None) -> tuple[Tensor, ...]:
        logits, state = _read(self.model, tokens, (h_0,) if c_0 is None else (h_0, c_0))
        return logits, *state


def split(text: str, words: bool) -> list[str]:
    """The symbols of a text."""
    return text.replace("\n", f" {END_OF_LINE} ").split() if words else list(text)


def trained(config: CharacterConfig | WordConfig, parameters: dict[str, Tensor]) -> Trained:
    """The language model that a run's parameters fit."""
    vocabulary = vocabulary_of(parameters[VOCABULARY_KEY])
    model = config.build_model(vocabulary)
    words = isinstance(config, WordConfig)

    def state(rows: int) -> State:
        return model.start(rows) if words else ()

    def encode(text: str | Sequence[str]) -> tuple[Tensor, ...]:
        """A text, or several with as many symbols each: int64 ``(T, B)``, and a word model's zero state."""
        texts = [split(one, words) for one in ([text] if isinstance(text, str) else text)]
        if not texts or not texts[0] or len({len(one) for one in texts}) > 1:
            raise ValueError(f"text must have symbols, and several texts as many each, got {[*map(len, texts)]}")
        return torch.stack([vocabulary.encode(one).long() for one in texts], 1), *state(len(texts))

    def example(rows: int) -> tuple[Tensor, ...]:
        return torch.randint(len(vocabulary), (rows + 7, rows)), *state(rows)

    names = ("h", "c") if config.cell == "lstm" else ("h",)
    inputs: dict[str, dict[int, str]] = {"tokens": {0: "steps", 1: "batch"}}
    outputs: Any = ("logits",)
    if words:
        inputs |= {f"{name}_0": {1: "batch"} for name in names}
        outputs += tuple(f"{name}_n" for name in names)
    program = WordProgram(model) if words else CharacterProgram(model)
    return Trained(model, program, encode, inputs, outputs, example, vocabulary)
