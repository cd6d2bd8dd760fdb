"""What is timed: each subject is a layer with the same call, made for one shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bnrnn


@dataclass(frozen=True)
class Shape:
    """Of a call; the six of the first list are tasks, the others vary one dimension."""

    steps: int
    batch: int
    inputs: int
    units: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.steps}x{self.batch}x{self.inputs}x{self.units}"


TASKS = [
    Shape(784, 64, 1, 100, "pixel MNIST"),
    Shape(500, 24, 123, 250, "speech"),
    Shape(300, 64, 200, 240, "reader"),
    Shape(20, 20, 200, 200, "PTB small"),
    Shape(35, 20, 1500, 1500, "PTB large"),
    Shape(100, 64, 50, 1000, "PTB characters"),
]
BATCHES = [Shape(100, batch, 100, 200) for batch in (2, 4, 16, 64, 256, 1024)]
STEPS = [Shape(steps, 16, 64, 128) for steps in (50, 200, 800, 2000, 8000)]
UNITS = [Shape(50, 32, 64, units) for units in (64, 128, 256, 512, 1024, 2048)]
SUITES = {"tasks": TASKS, "batch": BATCHES, "steps": STEPS, "units": UNITS}


class CompiledCell(nn.Module):
    """The BN-LSTM as a loop over a cell that torch.compile has made one graph of; batch statistics only."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(inputs, units)
        self.gamma_x, self.gamma_h = (nn.Parameter(torch.full((4 * units,), 0.1)) for _ in range(2))
        self.gamma_c = nn.Parameter(torch.full((units,), 0.1))
        self.beta_c = nn.Parameter(torch.zeros(units))
        self.cell = torch.compile(self._cell, dynamic=False)

    @staticmethod
    def _normalize(x: Tensor, gamma: Tensor) -> Tensor:
        mean = x.mean(0)
        return gamma * (x - mean) * torch.rsqrt((x - mean).square().mean(0) + 1e-5)

    def _cell(self, wx: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a = self._normalize(h @ self.layer.weight_hh_l0.t(), self.gamma_h)
        i, f, g, o = (a + self._normalize(wx, self.gamma_x) + self.layer.bias_ih_l0).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * (self._normalize(c, self.gamma_c) + self.beta_c).tanh(), c

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        h = c = x.new_zeros(x.shape[1], self.layer.hidden_size)
        outputs = []
        for wx in (x @ self.layer.weight_ih_l0.t()).unbind(0):
            h, c = self.cell(wx, h, c)
            outputs.append(h)
        return torch.stack(outputs), (h, c)


SUBJECTS: dict[str, Callable[[int, int], nn.Module]] = {
    "nn.LSTM": nn.LSTM,
    "LSTM cpu": lambda i, h: bnrnn.LSTM(i, h, norm="recurrent", backend="cpu"),
    "LSTM reference": lambda i, h: bnrnn.LSTM(i, h, norm="recurrent", backend="reference"),
    "LSTM compiled cell": CompiledCell,
    "nn.GRU": nn.GRU,
    "GRU cpu": lambda i, h: bnrnn.GRU(i, h, norm="recurrent", backend="cpu"),
    "nn.RNN": nn.RNN,
    "RNN cpu": lambda i, h: bnrnn.RNN(i, h, norm="recurrent", backend="cpu"),
}
PEER = {"GRU cpu": "nn.GRU", "RNN cpu": "nn.RNN"}  # of all others: nn.LSTM
FAST = ["nn.LSTM", "LSTM cpu", "nn.GRU", "GRU cpu", "nn.RNN", "RNN cpu"]


class Subject:
    """A layer with data of one shape: a training step, or an evaluation with population statistics."""

    def __init__(self, name: str, shape: Shape, mode: str) -> None:
        torch.manual_seed(0)
        self.layer = SUBJECTS[name](shape.inputs, shape.units)
        self.mode = mode
        self.x = torch.randn(shape.steps, shape.batch, shape.inputs)
        self.cotangent = torch.randn(shape.steps, shape.batch, shape.units)
        if mode == "eval":
            with torch.no_grad():
                self.layer(self.x)  # statistics to evaluate with
            self.layer.eval()

    def __call__(self) -> None:
        if self.mode == "eval":
            with torch.inference_mode():
                self.layer(self.x)
            return
        output, _ = self.layer(self.x)
        torch.autograd.backward(output, self.cotangent)
        self.layer.zero_grad()
