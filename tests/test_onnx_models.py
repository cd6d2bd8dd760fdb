"""ONNX programs of whole models against the models, in ONNX's own runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.nn.test_folding import filled
from tests.test_onnx import NORMS, run
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils.rnn import pack_padded_sequence

import bnrnn
import bnrnn.onnx

pytestmark = pytest.mark.usefixtures("unchecked")
STEPS, BATCH = Dim("T"), Dim("B")


class Tagger(nn.Module):
    """A user's model: embedding, layer, read-out at each word and at the end."""

    def __init__(self, cell: str, norm: Any, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 5)
        self.rnn = getattr(bnrnn, cell)(5, 7, norm=norm, **options)
        self.read = nn.Linear((self.rnn.proj_size or 7) * (2 if self.rnn.bidirectional else 1), 3)

    def forward(self, words: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, state = self.rnn(self.embedding(words), lengths=lengths)
        return self.read(output), state[0] if isinstance(state, tuple) else state


class Characters(nn.Module):
    """Integers straight into layers, and a learnt initial state."""

    def __init__(self, cell: str, *norms: Any) -> None:
        super().__init__()
        self.all = nn.ModuleList(filled(getattr(bnrnn, cell)(5, 7, norm=norm), rows=4) for norm in norms)
        self.h0 = nn.Parameter(torch.randn(1, 1, 7))

    def forward(self, symbols: Tensor) -> tuple[Tensor, ...]:
        h = self.h0.expand(-1, symbols.shape[1], -1)
        return tuple(rnn(symbols, (h, h.tanh()) if isinstance(rnn, bnrnn.LSTM) else h)[0] for rnn in self.all)


def example(steps: int, batch: int, lengths: bool, words: int = 10) -> tuple[Tensor, ...]:
    own = [torch.randint(1, steps + 1, (batch,))] if lengths else []
    return torch.randint(0, words, (steps, batch)), *own


def compare(model: nn.Module, program: onnx.ModelProto, args: tuple[Tensor, ...]) -> None:
    names = [value.name for value in program.graph.input]
    with torch.no_grad():
        expected = model(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for found, wanted in zip(run(program, **dict(zip(names, args, strict=True))), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def export(model: nn.Module, lengths: bool, words: int = 10, **options: Any) -> onnx.ModelProto:
    shapes = ({0: STEPS, 1: BATCH}, *([{0: BATCH}] if lengths else []))
    return bnrnn.onnx.export(model, None, example(6, 4, lengths, words), dynamic_shapes=shapes, **options)


class Taggers(nn.Module):
    """One for each norm, all in one program: tracing has its price."""

    def __init__(self, cell: str, norms: Any, **options: Any) -> None:
        super().__init__()
        self.all = nn.ModuleList(Tagger(cell, norm, **options) for norm in (None, *norms))
        for one in self.all:
            filled(one.rnn, rows=4)

    def forward(self, words: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        return tuple(value for one in self.all for value in one(words, lengths))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_outputs_are_the_models(cell: str) -> None:
    none = () if cell == "LSTM" else ("only cell", "cell layer", "shift")
    model = Taggers(cell, [NORMS[norm] for norm in NORMS if norm not in none]).eval()
    program = export(model, lengths=False)
    assert {entry.domain for entry in program.opset_import} == {""}
    for steps, batch in ((9, 5), (3, 2), (4, 1)):  # beyond the table's last row, and within it
        compare(model, program, example(steps, batch, False))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_both_directions_and_lengths(cell: str) -> None:
    model = Taggers(cell, ["recurrent" if cell != "RNN" else "summed", "layer"], bidirectional=True).eval()
    program = export(model, lengths=True)
    for steps, batch in ((9, 5), (3, 2), (4, 1)):
        compare(model, program, example(steps, batch, True))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_symbols_and_states(cell: str) -> None:
    model = Characters(cell, None, "recurrent", "input-sequence").eval()
    program = export(model, lengths=False, words=5)
    for steps, batch in ((9, 5), (3, 2)):
        compare(model, program, example(steps, batch, False, words=5))


@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2, "norm": "sequence-input", "bidirectional": True},
        {"proj_size": 3, "norm": "recurrent"},
        {"zoneout": (0.3, 0.1), "norm": "recurrent"},
        {"bias": False, "norm": None},
        {"backend": "reference", "norm": None},
    ],
)
def test_further_options(options: dict[str, Any]) -> None:
    if options.get("backend") == "reference":  # plain torch operations, as many as there are steps
        model = Tagger("LSTM", **options).eval()
        program = bnrnn.onnx.export(model, None, example(6, 4, False), dynamic_shapes=({1: BATCH},))
        compare(model, program, example(6, 3, False))
        return
    model = Tagger("LSTM", **options)
    filled(model.rnn, rows=4)
    compare(model.eval(), export(model, lengths=True), example(7, 3, True))


def test_layers_that_fold_are_onnxs_own() -> None:
    for cell, norm in (("LSTM", None), ("GRU", "input-sequence"), ("RNN", None)):
        model = Tagger(cell, norm)
        filled(model.rnn)
        operators = {node.op_type for node in export(model.eval(), lengths=False).graph.node}
        assert cell in operators
        assert "Scan" not in operators


BRANCH = """
import numpy as np, onnxruntime, torch
import bnrnn, bnrnn.onnx

class Branch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = bnrnn.GRU(5, 7, norm="recurrent")
        bnrnn.estimate_population_statistics(self.rnn, [torch.randn(6, 8, 5)])

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.rnn(x)[0], lambda x: 2 * self.rnn(-x)[0], (x,))

model, x = Branch().eval(), torch.randn(6, 4, 5)
program = bnrnn.onnx.export(model, None, (x,))
session = onnxruntime.InferenceSession(program.SerializeToString())
for given in (x.abs(), -x.abs()):
    with torch.no_grad():
        expected = model(given).numpy()
    np.testing.assert_allclose(session.run(None, {"x": given.numpy()})[0], expected, atol=1e-5)
print("works")
"""


def test_within_a_branch() -> None:
    """In a process of its own: torch.cond compiles, and compilers cannot look through type checks."""
    done = subprocess.run([sys.executable, "-c", BRANCH], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["works"], done.stderr


def test_names_file_and_double(tmp_path: Path) -> None:
    model = Tagger("GRU", "recurrent").double()
    filled(model.rnn, rows=4)
    program = bnrnn.onnx.export(
        model.eval(), tmp_path / "m.onnx", example(6, 4, False), input_names=["words"], output_names=["tags", "h_n"]
    )
    assert [value.name for value in program.graph.input] == ["words"]
    assert [value.name for value in program.graph.output] == ["tags", "h_n"]
    assert onnx.load(tmp_path / "m.onnx") == program
    compare(model, program, example(6, 4, False))


def test_wrong_calls() -> None:
    model, args = Tagger("LSTM", "recurrent"), example(6, 4, False)
    with pytest.raises(ValueError, match=r"in training; call eval\(\)"):
        bnrnn.onnx.export(model, None, args)
    model.eval()
    with bnrnn.batch_statistics(model), pytest.raises(ValueError, match=r"rnn\.norm_l0\.input takes its batch's"):
        bnrnn.onnx.export(model, None, args)
    with pytest.raises(ValueError, match="args: a Tagger is traced"):
        bnrnn.onnx.export(model)
    with pytest.raises(ValueError, match="tokens: belong to a layer by itself"):
        bnrnn.onnx.export(model, None, args, tokens=True)
    with pytest.raises(ValueError, match="input_names: belong to a model traced with args"):
        bnrnn.onnx.export(model.rnn, input_names=["x"])
    with pytest.raises(TypeError, match=r"float32 or float64 parameters, rnn has torch\.bfloat16"):
        bnrnn.onnx.export(Tagger("LSTM", None).bfloat16().eval(), None, args)
    packed = pack_padded_sequence(torch.randn(6, 4, 5), torch.tensor([6, 4, 3, 2]))
    with pytest.raises(TypeError, match="takes no PackedSequence"):
        bnrnn.onnx.export(model.rnn, None, (packed,))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="not under autocast"):
        bnrnn.onnx.export(model, None, args)
