"""A task of a few parameters that uses everything a task can: carried state, dropout, batch normalization."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnrnn
from bnrnn.training import Adam, Carry, Metrics, Plan, Purpose, Split, Statistics, Step, generator, seed_of


class ToyModel(nn.Module):
    def __init__(self, norm: str | None) -> None:
        super().__init__()
        self.rnn = bnrnn.LSTM(3, 5, norm=norm)
        self.readout = nn.Linear(5, 2)

    def forward(self, x: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        output, (h_n, c_n) = self.rnn(x, None if h is None or c is None else (h, c))
        return self.readout(F.dropout(output[-1], 0.3, self.training)), h_n, c_n


class ToyTask:
    """Two classes from random sequences; ``nan_at`` makes the loss of one update not a number."""

    batch_first = False

    def __init__(self, plan: Plan, seed: int = 1, norm: str | None = "recurrent", nan_at: int | None = None) -> None:
        self.seed, self.plan, self.norm, self.nan_at = seed, plan, norm, nan_at
        self.sources = {"toy": "0" * 64}
        torch.manual_seed(seed_of(seed, Purpose.INITIALIZATION))
        self.model = ToyModel(norm)

    def optimizer(self) -> Adam:
        return Adam(self.model.parameters(), lr=0.01)

    def learning_rate(self, epoch: int, position: int = 0) -> float:
        return 0.01 / (1 + epoch)

    def epoch_length(self, epoch: int) -> int:
        return 7

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor, int]:
        return (*self._data(epoch, position), epoch * 7 + position)

    def start(self, epoch: int) -> Carry:
        return {"h": torch.zeros(1, 8, 5), "c": torch.zeros(1, 8, 5)}

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, int], carry: Carry) -> Step:
        x, y, update = batch
        logits, h, c = model(x, carry["h"], carry["c"])
        loss = F.cross_entropy(logits, y)
        if update == self.nan_at:
            loss = loss * float("nan")
        return Step(loss, {"loss": loss.detach()}, {"h": h.detach(), "c": c.detach()})

    def evaluate(self, model: nn.Module, split: Split, statistics: Statistics) -> Metrics:
        x, y = self._data(1000, {"train": 0, "valid": 1, "test": 2}[split])
        logits = model(x)[0] + 0.01 * torch.randn(len(y), 2)
        error = (logits.argmax(1) != y).float().mean().item()
        return {"loss": F.cross_entropy(logits, y).item(), "error": error, "accuracy": 1 - error}

    def rows(self, split: Split, statistics: Statistics) -> int | None:
        return None if self.norm is None else {"batch": 8, "population": 24}[statistics]

    def population_batches(self) -> Iterator[Tensor]:
        for position in range(3):
            yield self._data(0, position)[0]

    def _data(self, *place: int) -> tuple[Tensor, Tensor]:
        random = generator(self.seed, Purpose.ORDER, *place)
        x = torch.randn(6, 8, 3, generator=random)
        return x, (x.mean((0, 2)) > 0).long()
