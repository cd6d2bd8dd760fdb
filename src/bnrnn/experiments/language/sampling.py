"""Text from a trained language model, symbol by symbol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrnn.experiments.language.characters import CharacterConfig
from bnrnn.experiments.language.model import VOCABULARY_KEY, LanguageModel, vocabulary_of
from bnrnn.experiments.language.trained import END_OF_LINE, split
from bnrnn.experiments.language.words import WordConfig
from bnrnn.experiments.opened import open_run
from bnrnn.training import RunError


class Sampler:
    """Streams text from a run's model; memory and time a symbol do not grow with the text.

    The model runs with its population statistics: those of the final evaluation where the run has come to it, else
    the running averages of training.

    Args:
        path: run folder of a language model.
        device: where to compute.

    Raises:
        RunError: the folder has no trained language model.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        run = open_run(path, "final", device)
        config = run.config
        if not isinstance(config, (CharacterConfig, WordConfig)):
            raise RunError(f"{path} is a run of {run.experiment.name}, which is no language model")
        self.words = isinstance(config, WordConfig)
        self.window = config.steps if isinstance(config, WordConfig) else None
        self.vocabulary = vocabulary_of(run.parameters[VOCABULARY_KEY])
        self.model: LanguageModel = run.model

    def encode(self, prompt: str) -> list[int]:
        """Indices of a prompt; an empty one stands for the end of a line, or else for the first symbol.

        Raises:
            ValueError: a symbol that the model does not know, where none stands for unknown ones.
        """
        symbols = split(prompt, self.words)
        if not symbols:
            wanted = (END_OF_LINE,) if self.words else ("\n", " ")
            symbols = [next((s for s in wanted if s in self.vocabulary.index), self.vocabulary.symbols[0])]
        return self.vocabulary.encode(symbols).tolist()

    def spell(self, index: int) -> str:
        """A symbol as it is written."""
        symbol = self.vocabulary.symbols[index]
        if not self.words:
            return symbol
        return "\n" if symbol == END_OF_LINE else symbol + " "

    def stream(
        self,
        prompt: str = "",
        length: int | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        unknown: bool = False,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Iterator[str]:
        """Symbols that follow a prompt, as they are drawn.

        Args:
            prompt: what the model reads first.
            length: symbols to draw; None for no end.
            temperature: what the logits are divided by; 0 takes the most probable symbol each time.
            seed: of the draws; the same one gives the same text.
            unknown: whether the symbol for unknown ones may be drawn.
            top_k: draw among the so many most probable symbols only.
            top_p: draw among the most probable symbols that together have this probability only.

        Raises:
            ValueError: an argument out of its range, or a prompt that the vocabulary does not have.
        """
        if length is not None and length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {top_p}")
        read = self.encode(prompt)
        barred = None
        if not unknown and self.vocabulary.unknown is not None:
            barred = self.vocabulary.index[self.vocabulary.unknown]
        random = torch.Generator().manual_seed(seed)
        bars = torch.zeros(len(self.vocabulary))
        if barred is not None:
            bars[barred] = -torch.inf

        def draw(logits: Tensor) -> int:
            scores = torch.add(bars, logits.cpu(), alpha=1 / temperature if temperature else 1)
            if not temperature:
                return int(scores.argmax())
            return int(torch.multinomial(nucleus(scores.softmax(0), top_k, top_p), 1, generator=random))

        return self._stream(read, length, draw)

    def _stream(self, read: list[int], length: int | None, draw: Callable[[Tensor], int]) -> Iterator[str]:
        step = steps(self.model, self.window)
        logits = torch.empty(0)
        for index in read:
            logits = step(index)
        drawn = 0
        while length is None or drawn < length:
            index = draw(logits)
            yield self.spell(index)
            drawn += 1
            if drawn != length:
                logits = step(index)


def nucleus(probabilities: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Probabilities (V,) with 0 for all but the likeliest symbols; they need not sum to 1.

    Args:
        probabilities: of all symbols.
        top_k: how many to keep, None for all.
        top_p: keep as few of these as have this share of their probability, None for all.
    """
    sizes, places = probabilities.sort(descending=True, stable=True)
    kept = sizes[:top_k]
    if top_p is not None:
        before = kept.cumsum(0) - kept
        kept = kept[before < top_p * kept.sum()]
    return torch.zeros_like(probabilities).scatter(0, places[: len(kept)], kept)


def steps(model: LanguageModel, window: int | None = None) -> Callable[[int], Tensor]:
    """A function that reads one symbol's index, goes one step on, and returns the next symbol's logits (V,).

    Args:
        model: in ``eval()``; it starts from its initial state, and must not change while the function is in use.
        window: the statistics' step starts anew after so many symbols; None for never.
    """
    weight, bias = model.readout.weight.detach(), model.readout.bias.detach()
    inputs = torch.arange(len(weight), device=weight.device) if model.embedding is None else model.embedding.weight
    rows = inputs.detach().unsqueeze(1).unbind()  # of a batch of one
    h, *c = (value.detach() for value in model.start(1))
    stream = model.rnn.stream((h, *c) if c else h)

    @torch.inference_mode()
    def step(index: int) -> Tensor:
        if stream.step == window:
            stream.step = 0
        return F.linear(stream(rows[index]), weight, bias)[0]

    return step
