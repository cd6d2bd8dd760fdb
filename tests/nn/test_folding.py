"""Layers whose statistics go into the weights of torch.nn's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bnrnn
from bnrnn import BatchNorm, LayerNorm, Norm, Shift

ONE = BatchNorm("frame", gamma=0.7, max_steps=1)
FOLDABLE: dict[str, Any] = {
    "none": None,
    "input-sequence": "input-sequence",
    "one row": Norm(input=ONE, recurrent=ONE),
    "sequence and one row": Norm(input=BatchNorm("sequence"), recurrent=ONE),
    "summed": Norm(summed=ONE),
    "input alone": Norm(input=ONE),
}


def filled(layer: Any, rows: int = 1) -> Any:
    """Random parameters and statistics, in eval()."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.3 + 0.5 * torch.randn(parameter.shape, generator=generator))
        for module in layer.modules():
            if hasattr(module, "count"):
                own = min(rows, len(module.count))
                mean = torch.randn(own, module.size, generator=generator)
                var = 0.5 + torch.rand(own, module.size, generator=generator)
                for table, value in ((module.mean, mean), (module.var, var)):
                    table[:own] = value.to(table)
                    table[own:] = table[own - 1]
                module.count[:own] = 3
    return layer.eval()


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", FOLDABLE)
@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_layer_computes_the_same(cell: str, norm: str, bias: bool) -> None:
    layer = filled(
        getattr(bnrnn, cell)(3, 5, 2, bias=bias, bidirectional=True, norm=FOLDABLE[norm], dtype=torch.float64)
    )
    folded = bnrnn.fold(layer)
    assert type(folded) is getattr(nn, cell)
    assert not folded.training
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    output, state = layer(x)
    expected, expected_state = folded(x)
    assert torch.allclose(output, expected, atol=1e-12)
    pairs = zip(state, expected_state, strict=True) if cell == "LSTM" else [(state, expected_state)]
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, atol=1e-12)
    own = {p.data_ptr() for p in layer.parameters()}
    assert not own & {p.data_ptr() for p in folded.parameters()}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch.nn.LSTM's own
def test_options_go_along() -> None:
    projected = filled(bnrnn.LSTM(3, 5, proj_size=2, batch_first=True, norm="input-sequence"))
    x = torch.randn(4, 7, 3)
    assert torch.allclose(projected(x)[0], bnrnn.fold(projected)(x)[0], atol=1e-5)
    relu = filled(bnrnn.RNN(3, 5, nonlinearity="relu", norm="input-sequence"))
    assert bnrnn.fold(relu).nonlinearity == "relu"
    shifted = bnrnn.LSTM(3, 5, norm=Norm(cell=Shift())).eval()  # a shift of 0 does nothing
    assert torch.allclose(shifted(x.transpose(0, 1))[0], bnrnn.fold(shifted)(x.transpose(0, 1))[0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"norm": "recurrent"}, "'input' has statistics of its own for each of 4 time steps"),
        ({"norm": "summed"}, "'summed' has statistics of its own"),
        ({"norm": "layer"}, "'input' is layer-normalized"),
        ({"norm": Norm(cell=ONE)}, "'cell' is normalized between the cell and the output's tanh"),
        ({"norm": Norm(cell=Shift())}, "'cell' is normalized"),
        ({"norm": Norm(cell=LayerNorm())}, "'cell' is layer-normalized"),
        ({"zoneout": 0.1}, "zoneout mixes"),
    ],
)
def test_what_cannot_be_folded_says_why(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        bnrnn.fold(filled(bnrnn.LSTM(3, 5, **options), rows=4))


def test_batch_statistics_and_other_modules_are_refused() -> None:
    layer = bnrnn.LSTM(3, 5, norm="input-sequence")
    with pytest.raises(ValueError, match=r"takes its batch's statistics; call eval\(\)"):
        bnrnn.fold(layer)
    with bnrnn.batch_statistics(layer.eval()), pytest.raises(ValueError, match="takes its batch's statistics"):
        bnrnn.fold(layer)
    with pytest.raises(TypeError, match="layer must be a bnrnn"):
        bnrnn.fold(nn.LSTM(3, 5))
