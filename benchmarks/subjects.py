"""What is timed: each subject is a layer beside its peer, made for one shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

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
FORMS = {"plain": TASKS, "packed": TASKS, "projected": TASKS}  # what plain layers are given
SUITES = {"tasks": TASKS, "memory": TASKS, **SWEEPS, "stream": STREAMS, **FORMS}


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


Layer = Callable[..., nn.Module]
PEERS: dict[str, Layer] = {"nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU, "nn.RNN": nn.RNN}


@dataclass(frozen=True)
class Subject:
    """A layer that is timed, and all that the benchmarks say of it.

    Attributes:
        name: in the results.
        peer: the layer beside it.
        layer: makes it of input size, hidden size and keywords; None for a stream.
        title: of its columns in the tables.
        label: of its curves and bars.
        colour: of its curves.
        gates: pre-activations of a unit, for a guess of the time it takes.
        eager: so slow that a few rounds must do.
        compilation: seconds before its first call.
    """

    name: str
    peer: str
    layer: Layer | None
    title: str
    label: str = ""
    colour: str = ""
    gates: int = 4
    eager: bool = False
    compilation: float = 0.0


def normalized(cell: Layer, backend: str = "cpu") -> Layer:
    return lambda inputs, units: cell(inputs, units, norm="recurrent", backend=backend)


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("LSTM cpu", "nn.LSTM", normalized(bnrnn.LSTM), "LSTM to `nn.LSTM`", "BN-LSTM", "tab:blue"),
        Subject("GRU cpu", "nn.GRU", normalized(bnrnn.GRU), "GRU to `nn.GRU`", "BN-GRU", "tab:orange", gates=3),
        Subject("RNN cpu", "nn.RNN", normalized(bnrnn.RNN), "RNN to `nn.RNN`", "BN-RNN", "tab:green", gates=1),
        Subject("LSTM reference", "nn.LSTM", normalized(bnrnn.LSTM, "reference"), "eager BN-LSTM to `nn.LSTM`",
                "BN-LSTM, eager", eager=True),
        Subject("LSTM compiled cell", "nn.LSTM", CompiledCell, "compiled cell to `nn.LSTM`",
                "BN-LSTM, compiled cell", eager=True, compilation=25.0),
        Subject("LSTM stream", "nn.LSTMCell", None, "a streamed step to `nn.LSTMCell`"),
        Subject("LSTM plain", "nn.LSTM", bnrnn.LSTM, "LSTM to `nn.LSTM`"),
        Subject("GRU plain", "nn.GRU", bnrnn.GRU, "GRU to `nn.GRU`", gates=3),
        Subject("RNN plain", "nn.RNN", bnrnn.RNN, "RNN to `nn.RNN`", gates=1),
    )
}  # fmt: skip


def layer_of(name: str | Layer) -> Layer:
    """Of a subject or a peer, or the layer itself."""
    if not isinstance(name, str):
        return name
    if name in PEERS:
        return PEERS[name]
    layer = SUBJECTS[name].layer
    assert layer is not None
    return layer


class Call:
    """A layer with data of one shape: a training step, or an evaluation with population statistics."""

    calls = 1

    def __init__(
        self,
        name: str | Layer,
        shape: Shape,
        mode: str,
        suite: str = "tasks",
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.manual_seed(0)
        size = {"proj_size": shape.units // 2} if suite == "projected" else {}
        self.layer = layer_of(name)(shape.inputs, shape.units, **size).to(device, dtype)
        self.mode = mode
        self.x: Any = torch.randn(shape.steps, shape.batch, shape.inputs).to(device, dtype)
        if suite == "packed":
            least = max(1, shape.steps // 4)
            lengths = torch.randint(least, shape.steps + 1, (shape.batch,)).sort(descending=True).values
            self.x = pack_padded_sequence(self.x, lengths)
        if mode == "eval":
            with torch.no_grad():
                # statistics to evaluate with, which one row alone does not have
                self.layer(self.x if shape.batch > 1 else torch.randn(shape.steps, 2, shape.inputs))
            self.layer.eval()
        with torch.no_grad():
            self.cotangent = torch.randn_like(self.output()) if mode == "train" else None

    def output(self) -> Tensor:
        output, _ = self.layer(self.x)
        return output if isinstance(output, Tensor) else output.data

    def __call__(self) -> None:
        if self.mode == "eval":
            with torch.inference_mode():
                self.layer(self.x)
            return
        torch.autograd.backward(self.output(), self.cotangent)
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


def make(name: str, shape: Shape, mode: str, suite: str = "tasks") -> Call | Streamed:
    return Streamed(name, shape) if mode == "stream" else Call(name, shape, mode, suite)
