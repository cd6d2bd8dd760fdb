"""ONNX programs against the layers that they were made of, in ONNX's own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.nn.test_folding import FOLDABLE, filled

import bnrnn
import bnrnn.onnx
from bnrnn import BatchNorm, LayerNorm, Norm, Shift

FRAME = BatchNorm("frame", gamma=0.7)
NORMS: dict[str, Any] = {
    **FOLDABLE,
    **{name: name for name in bnrnn.norms.PRESETS},
    "input layer, recurrent frame": Norm(input=LayerNorm(), recurrent=FRAME),
    "summed layer": Norm(summed=LayerNorm()),
    "only cell": Norm(cell=FRAME),
    "cell layer": Norm(cell=LayerNorm()),
    "shift": Norm(cell=Shift()),
}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep, both directions, batch first, lengths": {
        "num_layers": 2, "bidirectional": True, "batch_first": True, "lengths": True,
    },
    "deep, tokens, lengths": {"num_layers": 2, "lengths": True, "tokens": True},
    "both directions without lengths": {"bidirectional": True},
}  # fmt: skip


def run(model: onnx.ModelProto, **feed: Any) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {name: np.asarray(value) for name, value in feed.items()})  # pyright: ignore


def compare(layer: Any, model: onnx.ModelProto, steps: int, batch: int, lengths: bool, tokens: bool) -> None:
    shape = (batch, steps) if layer.batch_first else (steps, batch)
    dtype = layer.weight_ih_l0.dtype
    x = torch.randint(0, layer.input_size, shape) if tokens else torch.randn(*shape, layer.input_size, dtype=dtype)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.randn(count, batch, layer.proj_size or layer.hidden_size, dtype=dtype)
    c = torch.randn(count, batch, layer.hidden_size, dtype=dtype)
    is_lstm = isinstance(layer, bnrnn.LSTM)
    own = torch.randint(1, steps + 1, (batch,)) if lengths else None
    feed: dict[str, Any] = {"input": x, "h_0": h, **({"c_0": c} if is_lstm else {})}
    if own is not None:
        feed["lengths"] = own
    with torch.no_grad():
        output, state = layer(x, (h, c) if is_lstm else h, lengths=own)
    expected = [output, *(state if is_lstm else (state,))]
    for found, wanted in zip(run(model, **feed), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_outputs_are_the_layers(cell: str, norm: str, shape: str) -> None:
    if cell != "LSTM" and norm in ("only cell", "cell layer", "shift"):
        with pytest.raises(ValueError, match="cell"):
            getattr(bnrnn, cell)(5, 7, norm=NORMS[norm])
        return
    options = dict(SHAPES[shape])
    lengths, tokens = options.pop("lengths", False), options.pop("tokens", False)
    layer = filled(getattr(bnrnn, cell)(5, 7, norm=NORMS[norm], **options), rows=4)
    model = bnrnn.onnx.export(layer, lengths=lengths, tokens=tokens)
    for steps, batch in ((9, 4), (3, 1)):  # beyond the table's last row, and within it
        compare(layer, model, steps, batch, lengths, tokens)


@pytest.mark.parametrize(
    "options",
    [
        {"proj_size": 3, "norm": "recurrent"},
        {"proj_size": 3},
        {"zoneout": (0.3, 0.1), "norm": "recurrent"},
        {"bias": False, "norm": "recurrent"},
        {"dtype": torch.float64, "norm": "recurrent"},
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch's own function, which few steps take
def test_further_options(options: dict[str, Any]) -> None:
    layer = filled(bnrnn.LSTM(5, 7, **options), rows=4)
    compare(layer, bnrnn.onnx.export(layer), 6, 3, False, False)


def test_a_layer_that_can_be_folded_is_onnxs_own_operator() -> None:
    for cell, operator in (("LSTM", "LSTM"), ("GRU", "GRU"), ("RNN", "RNN")):
        layer = filled(getattr(bnrnn, cell)(5, 7, norm="input-sequence"))
        operators = {node.op_type for node in bnrnn.onnx.export(layer).graph.node}
        assert operator in operators
        assert "Scan" not in operators
        scanned = bnrnn.onnx.export(layer, foldable=False)
        assert "Scan" in {node.op_type for node in scanned.graph.node}
        compare(layer, scanned, 5, 3, False, False)


def test_padding_has_no_part_in_anything() -> None:
    layer = filled(bnrnn.LSTM(5, 7, bidirectional=True, norm="recurrent"), rows=4)
    model = bnrnn.onnx.export(layer, lengths=True)
    x, state = torch.randn(6, 2, 5), torch.zeros(2, 2, 7)
    feed = {"h_0": state, "c_0": state, "lengths": torch.tensor([6, 4])}
    clean = run(model, input=x, **feed)
    x[4:, 1] = float("nan")
    for ours, expected in zip(run(model, input=x, **feed), clean, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert (clean[0][4:, 1] == 0).all()


def test_chunks_equal_the_whole() -> None:
    layer = filled(bnrnn.GRU(5, 7, norm="recurrent"), rows=8)
    model = bnrnn.onnx.export(layer, start_step=True)
    x, h = torch.randn(10, 2, 5), torch.zeros(1, 2, 7)
    whole, _ = run(model, input=x, h_0=h, start_step=0)
    first, between = run(model, input=x[:4], h_0=h, start_step=0)
    second, _ = run(model, input=x[4:], h_0=between, start_step=4)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-6)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["recurrent", "layer", "summed"])
def test_steps_are_those_of_a_stream(cell: str, norm: str, tokens: bool) -> None:
    layer = filled(getattr(bnrnn, cell)(5, 7, 2, norm=norm), rows=4)
    model = bnrnn.onnx.export_step(layer, tokens=tokens)
    stream = layer.stream()
    state = {"h_0": np.zeros((2, 3, 7), np.float32)}
    if cell == "LSTM":
        state["c_0"] = np.zeros((2, 3, 7), np.float32)
    for step in range(7):
        x = torch.randint(0, 5, (3,)) if tokens else torch.randn(3, 5)
        output, *new = run(model, input=x, step=step, **state)
        np.testing.assert_allclose(output, stream(x).numpy(), atol=1e-5)
        state = dict(zip(state, new, strict=True))


def test_the_file_is_the_model(tmp_path: Path) -> None:
    layer = filled(bnrnn.LSTM(5, 7, norm="recurrent"), rows=4)
    model = bnrnn.onnx.export(layer, tmp_path / "layer.onnx")
    assert onnx.load(tmp_path / "layer.onnx") == model
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dimensions] == ["T", "B", 5]


def test_wrong_calls() -> None:
    layer = bnrnn.LSTM(5, 7, norm="recurrent", bidirectional=True)
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        bnrnn.onnx.export(layer)
    layer.eval()
    with pytest.raises(ValueError, match="start_step: a bidirectional layer"):
        bnrnn.onnx.export(layer, start_step=True)
    with pytest.raises(ValueError, match="has no single step"):
        bnrnn.onnx.export_step(layer)
    with pytest.raises(TypeError, match="layer must be a bnrnn"):
        bnrnn.onnx.export_step(torch.nn.LSTM(5, 7))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        bnrnn.onnx.export(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="float32 or float64"):
        bnrnn.onnx.export(bnrnn.LSTM(5, 7).to(torch.bfloat16).eval())
