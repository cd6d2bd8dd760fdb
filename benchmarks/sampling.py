"""Sampling from a character model beside a loop over ``torch.nn.LSTMCell``: microseconds a character.

    python benchmarks/sampling.py

Both draw from a softmax over 50 characters with one thread. The text of both must be the same for the same weights
before anything is timed; the rounds alternate, and the medians of the rounds' ratios are printed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.language.characters import CharacterConfig
from bnrnn.experiments.language.model import LanguageModel
from bnrnn.experiments.language.sampling import steps

SYMBOLS = 50
ROUNDS, LENGTH = 15, 300


def draw(step: Callable[[int], torch.Tensor], seed: int) -> Iterator[int]:
    random = torch.Generator().manual_seed(seed)
    index = 0
    while True:
        index = int(torch.multinomial(step(index).softmax(0), 1, generator=random))
        yield index


def cell_steps(cell: nn.LSTMCell, readout: nn.Linear) -> Callable[[int], torch.Tensor]:
    h = c = torch.zeros(1, cell.hidden_size)
    one_hot = torch.eye(SYMBOLS).unsqueeze(1).unbind()

    @torch.no_grad()
    def step(index: int) -> torch.Tensor:
        nonlocal h, c
        h, c = cell(one_hot[index], (h, c))
        return readout(h)[0]

    return step


def seconds(step: Callable[[int], torch.Tensor]) -> float:
    symbols = draw(step, 1)
    for _ in range(20):
        next(symbols)
    started = time.perf_counter()
    for _ in range(LENGTH):
        next(symbols)
    return (time.perf_counter() - started) / LENGTH


def as_cell(model: LanguageModel) -> nn.LSTMCell:
    """The cell of an LSTM without a norm."""
    cell = nn.LSTMCell(SYMBOLS, model.rnn.hidden_size)
    weights = {name.removesuffix("_l0"): value for name, value in model.rnn.state_dict().items()}
    cell.load_state_dict({name: weights[name] for name in cell.state_dict()})
    return cell


def main() -> None:
    torch.set_num_threads(1)
    vocabulary = Vocabulary(tuple(chr(65 + index) for index in range(SYMBOLS)))
    print(f"{'units':>5} {'norm':<10} {'ours us':>8} {'cell us':>8} {'ratio':>6}")
    for units in (200, 512, 1000):
        plain = CharacterConfig(units=units, norm="none", cell_shift=False).build_model(vocabulary).eval()
        cell = as_cell(plain)
        ours, theirs = draw(steps(plain), 2), draw(cell_steps(cell, plain.readout), 2)
        if [next(ours) for _ in range(200)] != [next(theirs) for _ in range(200)]:
            raise SystemExit("the two loops do not draw the same text")
        for norm in ("none", "recurrent"):
            model = CharacterConfig(units=units, norm=norm).build_model(vocabulary)  # type: ignore[arg-type]
            with torch.no_grad():
                model.train()(torch.randint(SYMBOLS, (99, 8)))
            model.eval()
            pairs = [(seconds(steps(model)), seconds(cell_steps(cell, plain.readout))) for _ in range(ROUNDS)]
            mine, peer = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{units:>5} {norm:<10} {mine:>8.0f} {peer:>8.0f} {ratio:>6.2f}")


if __name__ == "__main__":
    main()
