"""What programs written for torch.nn ask a layer, and numbers as NumPy has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bnrnn
from bnrnn import BatchNorm, LayerNorm, Norm
from build import CLASSES, call, close, make, states, tensor

TORCH = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
CELLS = list(TORCH)


@pytest.mark.parametrize("norm", [None, "recurrent"])
def test_mode_is_torchs_name_of_the_cell(norm: str | None) -> None:
    for cell, options in (("LSTM", {}), ("GRU", {}), ("RNN", {}), ("RNN", {"nonlinearity": "relu"})):
        assert CLASSES[cell](3, 4, norm=norm, **options).mode == TORCH[cell](3, 4, **options).mode


@pytest.mark.parametrize("cell", CELLS)
def test_flat_weights_are_torchs_where_the_parameters_are(cell: str) -> None:
    options: dict[str, Any] = {"bidirectional": True, **({"proj_size": 2} if cell == "LSTM" else {})}
    theirs = TORCH[cell](3, 4, 2, **options)
    ours = CLASSES[cell].from_torch(theirs)
    assert len(ours._flat_weights) == len(theirs._flat_weights)
    for a, b in zip(ours._flat_weights, theirs._flat_weights, strict=True):
        assert torch.equal(a, b)
    assert ours._flat_weights[0] is ours.weight_ih_l0
    assert not hasattr(CLASSES[cell](3, 4, norm="layer"), "_flat_weights")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent"])
def test_permute_hidden(cell: str, norm: str | None) -> None:
    theirs, ours = TORCH[cell](3, 4, 2), make(cell, 3, 4, 2, norm=norm)
    state = states(ours, 5)
    hx: Any = tuple(state) if cell == "LSTM" else state[0]
    for order in (None, torch.tensor([3, 1, 0, 4, 2])):
        actual, expected = ours.permute_hidden(hx, order), theirs.permute_hidden(hx, order)
        for a, e in zip(*((v,) if isinstance(v, torch.Tensor) else v for v in (actual, expected)), strict=True):
            close(a, e, 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_check_forward_args(cell: str, batch_first: bool) -> None:
    layer = make(cell, 3, 4, 2, norm="recurrent", batch_first=batch_first)
    x = tensor(5, 6, 3) if batch_first else tensor(6, 5, 3)

    def hx(batch: int) -> Any:
        state = states(layer, batch)
        return tuple(state) if cell == "LSTM" else state[0]

    layer.check_forward_args(x, hx(5), None)
    layer.check_forward_args(tensor(11, 3), hx(5), torch.tensor([5, 5, 1]))
    for arguments in (
        (x[..., :2], hx(5), None),
        (x, hx(6), None),
        (x[0], hx(5), None),
        (x.float(), hx(5), None),
        (tensor(11, 3), hx(4), torch.tensor([5, 5, 1])),
        (x, hx(5), torch.tensor([5, 5, 1])),
    ):
        with pytest.raises(ValueError, match=r"input|hx"):
            layer.check_forward_args(*arguments)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("norm", [None, "recurrent"])
def test_dynamic_quantization_leaves_the_layer_alone(norm: str | None) -> None:
    model = nn.Sequential(bnrnn.LSTM(3, 4, norm=norm))
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.GRU})
    assert type(quantized[0]) is bnrnn.LSTM
    assert quantized[0].weight_ih_l0.dtype == torch.float32


# Numbers


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_numbers_of_numpy(cell: str, integer: Any, real: Any) -> None:
    site = BatchNorm(gamma=real(0.5), eps=real(1e-4), momentum=real(0.25), max_steps=integer(9), min_rows=integer(3))
    assert (site.gamma, site.momentum, site.max_steps, site.min_rows) == (0.5, 0.25, 9, 3)
    assert {type(site.gamma), type(site.eps), type(site.momentum)} == {float}
    assert {type(site.max_steps), type(site.min_rows)} == {int}
    assert type(LayerNorm(gamma=real(2), eps=real(1e-3)).eps) is float
    layer = CLASSES[cell](
        integer(3),
        integer(4),
        integer(2),
        dropout=real(0.5),
        zoneout=real(0.25),
        recurrent_dropout=real(0.125),
        norm=Norm(input=site, recurrent=site),
    )
    assert (layer.input_size, layer.hidden_size, layer.num_layers) == (3, 4, 2)
    assert {type(layer.input_size), type(layer.hidden_size), type(layer.num_layers)} == {int}
    assert (layer.dropout, layer.recurrent_dropout, layer._zoneout[0]) == (0.5, 0.125, 0.25)
    assert "np." not in repr(layer)
    x = torch.randn(6, 5, 3)
    call(layer, x, start_step=integer(2))
    layer.eval()
    expected = call(layer, x, lengths=[6, 2, 3, 6, 1], start_step=1)[0]
    lengths = [6, 2, 3, 6, 1]
    for given in (np.array(lengths, dtype=integer), [integer(n) for n in lengths], tuple(lengths)):
        assert torch.equal(call(layer, x, lengths=given, start_step=integer(1))[0], expected)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bnrnn.LSTM(np.float32(3), 4), "input_size must be an int"),
        (lambda: bnrnn.LSTM(torch.tensor(3), 4), "input_size must be an int"),
        (lambda: bnrnn.LSTM(np.bool_(True), 4), "input_size must be an int"),
        (lambda: bnrnn.LSTM(3, 4, 2, dropout=np.bool_(True)), "dropout must be a number"),
        (lambda: bnrnn.LSTM(3, 4, 2, dropout=torch.tensor(0.5)), "dropout must be a number"),
        (lambda: bnrnn.LSTM(3, 4, 2, dropout=0.5j), "dropout must be a number"),
        (lambda: BatchNorm(max_steps=np.float64(3)), "max_steps must be an int"),
        (lambda: BatchNorm(gamma=np.bool_(True)), "gamma must be a number"),
        (lambda: make("LSTM", 3, 4)(tensor(5, 2, 3), lengths=np.array([5.0, 2.0])), "lengths must be integers"),
        (lambda: make("LSTM", 3, 4)(tensor(5, 2, 3), lengths=np.array(["5", "2"])), "lengths must be a tensor"),
    ],
)
def test_what_only_looks_like_a_number(build: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("options", [{"norm": "layer"}, {"zoneout": 0.1}, {"recurrent_dropout": 0.1}])
def test_torchs_own_functions_have_nothing_more(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="backend='torch' has neither norm nor zoneout nor recurrent_dropout"):
        bnrnn.LSTM(3, 4, backend="torch", **options)


def test_looking_ahead() -> None:
    ahead = {name for name, preset in bnrnn.norms.PRESETS.items() if preset().looks_ahead}
    assert ahead == {"input-sequence", "sequence-input"}
    assert not Norm(cell=bnrnn.Shift()).looks_ahead
