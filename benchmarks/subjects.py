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
BATCHES = [Shape(100, batch, 100, 200) for batch in (1, 2, 4, 16, 64, 256, 1024)]
STEPS = [Shape(steps, 16, 64, 128) for steps in (50, 200, 800, 2000, 8000)]
UNITS = [Shape(50, 32, 64, units) for units in (64, 128, 256, 512, 1024, 2048)]
STREAMS = [Shape(1, 1, 50, units) for units in (64, 128, 256, 512, 1024, 2048)]
SWEEPS = {"batch": BATCHES, "steps": STEPS, "units": UNITS}
SUITES = {"tasks": TASKS, "memory": TASKS, **SWEEPS, "stream": STREAMS}


class CompiledCell(nn.Module):
    """The BN-LSTM as a loop over a cell that torch.compile has made one graph of; batch statistics only."""

    def __init__(self, inputs: int, units: int, compiled: bool = True) -> None:
        super().__init__()
        bound = units**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * units, inputs).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * units))
        self.gamma_x, self.gamma_h = (nn.Parameter(torch.full((4 * units,), 0.1)) for _ in range(2))
        self.gamma_c = nn.Parameter(torch.full((units,), 0.1))
        self.beta_c = nn.Parameter(torch.zeros(units))
        self.cell = torch.compile(self._cell, dynamic=False) if compiled else self._cell

    @staticmethod
    def _normalize(x: Tensor, gamma: Tensor) -> Tensor:
        mean = x.mean(0)
        return gamma * (x - mean) * torch.rsqrt((x - mean).square().mean(0) + 1e-5)

    def _cell(self, wx: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a = self._normalize(h @ self.weight_hh.t(), self.gamma_h)
        i, f, g, o = (a + self._normalize(wx, self.gamma_x) + self.bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * (self._normalize(c, self.gamma_c) + self.beta_c).tanh(), c

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        h = c = x.new_zeros(x.shape[1], self.weight_hh.shape[1])
        outputs = []
        for wx in (x @ self.weight_ih.t()).unbind(0):
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
PEERS = {
    "LSTM cpu": "nn.LSTM",
    "GRU cpu": "nn.GRU",
    "RNN cpu": "nn.RNN",
    "LSTM reference": "nn.LSTM",
    "LSTM compiled cell": "nn.LSTM",
    "LSTM stream": "nn.LSTMCell",
}


class Subject:
    """A layer with data of one shape: a training step, or an evaluation with population statistics."""

    calls = 1

    def __init__(self, name: str, shape: Shape, mode: str) -> None:
        torch.manual_seed(0)
        self.layer = SUBJECTS[name](shape.inputs, shape.units)
        self.mode = mode
        self.x = torch.randn(shape.steps, shape.batch, shape.inputs)
        self.cotangent = torch.randn(shape.steps, shape.batch, shape.units)
        if mode == "eval":
            with torch.no_grad():
                # statistics to evaluate with, which one row alone does not have
                self.layer(self.x if shape.batch > 1 else torch.randn(shape.steps, 2, shape.inputs))
            self.layer.eval()

    def __call__(self) -> None:
        if self.mode == "eval":
            with torch.inference_mode():
                self.layer(self.x)
            return
        output, _ = self.layer(self.x)
        torch.autograd.backward(output, self.cotangent)
        self.layer.zero_grad()


class Streamed:
    """One step a call and one row, many times over: an LSTMCell, or a layer's stream."""

    calls = 200

    def __init__(self, name: str, shape: Shape) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(1, shape.inputs)
        self.cell = nn.LSTMCell(shape.inputs, shape.units).eval() if name == "nn.LSTMCell" else None
        self.state: tuple[Tensor, Tensor] | None = None
        if self.cell is None:
            layer = bnrnn.LSTM(shape.inputs, shape.units, norm="recurrent")
            with torch.no_grad():
                layer(torch.randn(3, 8, shape.inputs))
            self.stream = layer.eval().stream()

    def __call__(self) -> None:
        with torch.inference_mode():
            for _ in range(self.calls):
                if self.cell is None:
                    self.stream(self.x)
                else:
                    self.state = self.cell(self.x, self.state)


def make(name: str, shape: Shape, mode: str) -> Subject | Streamed:
    return Streamed(name, shape) if mode == "stream" else Subject(name, shape, mode)
