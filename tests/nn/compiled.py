"""What torch.export and torch.compile make of the layers: a script, since compilers cannot look through type checks.

Each function asserts numbers; the script runs the one it is told.
"""

from __future__ import annotations

import sys
import warnings

import torch
from torch import Tensor, nn

import bnrnn

CLASSES = {"LSTM": bnrnn.LSTM, "GRU": bnrnn.GRU, "RNN": bnrnn.RNN}


class Classifier(nn.Module):
    """A model that holds a layer."""

    def __init__(self, cell: str, norm: str | None, **options: object) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 3)
        self.rnn = CLASSES[cell](3, 5, norm=norm, **options)
        self.read = nn.Linear(5 * (2 if self.rnn.bidirectional else 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.rnn(torch.relu(self.embed(x)))[0][-1])


def trained(cell: str, norm: str | None, steps: int = 3, **options: object) -> tuple[Classifier, Tensor]:
    torch.manual_seed(0)
    model, x = Classifier(cell, norm, **options), torch.randn(steps, 4, 2)
    model(x)
    return model.eval(), x


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def export(cell: str) -> None:
    """An eval-mode model as one graph, with a free batch size, on the kernels and on the reference."""
    for norm in (None, "recurrent", "layer") if cell == "LSTM" else ("recurrent",):
        for backend in ("auto", "reference"):
            model, x = trained(cell, norm, bidirectional=True, backend=backend)
            batch = torch.export.Dim("batch", min=2, max=64)
            program = torch.export.export(model, (x,), dynamic_shapes=({1: batch},))
            for other in (x, torch.randn(3, 7, 2)):
                close(program.module()(other), model(other))
            print(cell, norm, backend, "exported", len(program.graph.nodes), "nodes")


def export_after_loading(cell: str) -> None:
    """A program goes through a file and needs no bnrnn layer any more."""
    import io

    model, x = trained(cell, "recurrent", backend="reference")
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(model, (x,)), buffer)
    buffer.seek(0)
    program = torch.export.load(buffer)
    close(program.module()(x), model(x))
    assert not any("bnrnn" in str(node.target) for node in program.graph.nodes)


def export_kernels(cell: str) -> None:
    """The kernels are one operator in the graph, through a file too, with free batch size and number of steps."""
    import io

    torch.manual_seed(0)
    layer = CLASSES[cell](3, 5, norm="recurrent", backend="cpu")
    layer(torch.randn(6, 4, 3))
    layer.eval()
    free = {0: torch.export.Dim("steps", min=2, max=64), 1: torch.export.Dim("batch", min=2, max=64)}
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(layer, (torch.randn(5, 4, 3),), dynamic_shapes=(free,)), buffer)
    buffer.seek(0)
    program = torch.export.load(buffer)
    operators = [str(node.target) for node in program.graph.nodes if "bnrnn" in str(node.target)]
    assert operators == ["bnrnn.recurrence.default"], operators
    for steps, batch in ((5, 4), (3, 7), (9, 2)):  # the last longer than the table of statistics
        x = torch.randn(steps, batch, 3)
        close(program.module()(x)[0], layer(x)[0])


def compile_eval(cell: str) -> None:
    for norm in (None, "recurrent"):
        model, x = trained(cell, norm, backend="reference")
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        close(compiled(x), model(x))
        print(cell, norm, "compiled for evaluation")


def compile_training(cell: str) -> None:
    """Outputs, gradients and statistics of a compiled training step are those of the plain one."""
    for norm in ("recurrent", "sequence-input") if cell == "LSTM" else ("recurrent",):
        torch.manual_seed(0)
        plain, other = Classifier(cell, norm), Classifier(cell, norm)
        other.load_state_dict(plain.state_dict())
        compiled = torch.compile(other, backend="aot_eager")
        for k in range(3):
            x = torch.randn(4, 5, 2)
            cotangent = torch.randn(5, 4)
            for model in (plain, compiled):
                model.zero_grad()
                (model(x) * cotangent).sum().backward()
            for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
                assert p.grad is not None, name
                assert q.grad is not None, name
                close(q.grad, p.grad)
            for (name, b), c in zip(plain.named_buffers(), other.buffers(), strict=True):
                close(c, b)
                if name.endswith("count"):
                    assert c[0] == k + 1, name
        print(cell, norm, "compiled for training")


def compile_kernels(cell: str) -> None:
    """Training with the code generator and dynamic shapes: outputs, gradients and statistics."""
    torch.manual_seed(0)
    plain, other = (CLASSES[cell](3, 5, norm="recurrent", backend="cpu") for _ in range(2))
    other.load_state_dict(plain.state_dict())
    compiled = torch.compile(other, fullgraph=True, dynamic=True)
    for steps, batch in ((6, 4), (6, 5), (4, 7)):
        x = torch.randn(steps, batch, 3)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        for model, x in zip((plain, compiled), inputs, strict=True):
            model.zero_grad()
            model(x)[0].square().sum().backward()
        for a, b in ((inputs[0], inputs[1]), *zip(plain.parameters(), other.parameters(), strict=True)):
            assert a.grad is not None
            assert b.grad is not None
            close(b.grad, a.grad)
        for a, b in zip(plain.buffers(), other.buffers(), strict=True):
            close(b, a)


def compile_lengths(cell: str) -> None:
    """The third length and all later ones are compiled already, in training and in evaluation."""
    for norm in ("recurrent", None):
        torch.manual_seed(0)
        plain, other = (CLASSES[cell](3, 5, norm=norm, backend="cpu") for _ in range(2))
        other.load_state_dict(plain.state_dict())
        for training in (True, False):
            torch.compiler.reset()
            compiled = torch.compile(other.train(training), fullgraph=True, backend="aot_eager")
            plain.train(training)
            for steps in range(4, 20):
                x = torch.randn(steps, 6, 3)
                with torch._dynamo.config.patch(error_on_recompile=steps > 5):
                    output = compiled(x)[0]
                close(output, plain(x)[0])
        for a, b in zip(plain.buffers(), other.buffers(), strict=True):
            close(b, a)
        print(cell, norm, "compiled for every length")


def compile_growth(cell: str) -> None:
    """A table that doubles is compiled for once more, and holds what the plain layer's does."""
    torch.manual_seed(0)
    plain, other = (CLASSES[cell](3, 5, norm="recurrent", backend="cpu") for _ in range(2))
    other.load_state_dict(plain.state_dict())
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for steps in (10, 20, 70, 30, 80, 130):
        x = torch.randn(steps, 6, 3)
        close(compiled(x)[0], plain(x)[0])
        for a, b in zip(plain.buffers(), other.buffers(), strict=True):
            close(b, a)
    assert len(other.norm_l0["recurrent"].count) == 256


def compile_inductor(cell: str) -> None:
    """With the code generator too, once."""
    model, x = trained(cell, "recurrent", steps=2)
    close(torch.compile(model, fullgraph=True)(x), model(x))


if __name__ == "__main__":
    warnings.simplefilter("error")
    # torch's own, met inside its compiler
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for function in sys.argv[2:]:
        globals()[function](sys.argv[1])
