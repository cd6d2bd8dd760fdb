"""What the specifications and presets say, and what a layer starts from."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch

import bnrnn
from bnrnn import BatchNorm, LayerNorm, Norm, Shift, norms
from bnrnn.ops import loading
from build import CLASSES, make, tensor

FRAME = BatchNorm("frame", gamma=0.1)


@pytest.mark.parametrize(
    ("name", "preset", "sites"),
    [
        ("recurrent", norms.recurrent(), {"input": FRAME, "recurrent": FRAME, "cell": FRAME}),
        ("input-frame", norms.input("frame"), {"input": BatchNorm("frame", gamma=1.0)}),
        ("input-sequence", norms.input("sequence"), {"input": BatchNorm("sequence", gamma=1.0)}),
        (
            "sequence-input",
            norms.sequence_input(),
            {"input": BatchNorm("sequence", gamma=0.1), "recurrent": FRAME, "cell": FRAME},
        ),
        ("summed", norms.summed(), {"summed": BatchNorm("frame", gamma=1.0)}),
        ("layer", norms.layer(), {"input": LayerNorm(), "recurrent": LayerNorm(), "cell": LayerNorm()}),
    ],
)
def test_presets(name: str, preset: Norm, sites: dict[str, Any]) -> None:
    assert preset.sites() == sites
    assert bnrnn.LSTM(2, 3, norm=name).norm.sites() == sites
    assert bnrnn.LSTM(2, 3, norm=preset).norm.sites() == sites
    for other in (bnrnn.GRU(2, 3, norm=name), bnrnn.RNN(2, 3, norm=preset)):
        assert other.norm.sites() == {k: v for k, v in sites.items() if k != "cell"}
    assert name in norms.PRESETS


def test_all_presets_are_listed() -> None:
    assert list(norms.PRESETS) == ["recurrent", "input-frame", "input-sequence", "sequence-input", "summed", "layer"]


def test_gammas_of_presets() -> None:
    assert {s.gamma for s in norms.recurrent(0.3).sites().values()} == {0.3}
    assert {s.gamma for s in norms.sequence_input(0.5).sites().values()} == {0.5}
    assert norms.input("frame", 0.2).input == BatchNorm("frame", gamma=0.2)
    assert norms.summed(0.4).summed == BatchNorm("frame", gamma=0.4)
    assert {s.gamma for s in norms.layer(2).sites().values()} == {2}


def test_defaults() -> None:
    """The second paper's numbers: gamma 0.1 (section 4), eps 1e-5 (released code)."""
    site = BatchNorm()
    assert (site.statistics, site.gamma, site.eps, site.momentum, site.max_steps, site.min_rows) == (
        "frame",
        0.1,
        1e-5,
        0.1,
        None,
        2,
    )
    assert (LayerNorm().gamma, LayerNorm().eps) == (1.0, 1e-5)
    with pytest.raises(FrozenInstanceError):
        site.gamma = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(("cell", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_what_a_layer_starts_from(cell: str, gates: int) -> None:
    """gamma as said; an offset only at the cell, 0; weights as in torch.nn."""
    torch.manual_seed(0)
    layer = CLASSES[cell](3, 50, 2, norm="recurrent", bidirectional=True)
    for name, parameter in layer.named_parameters():
        if name.endswith("gamma"):
            assert (parameter == 0.1).all()
            assert parameter.shape == (50 if ".cell." in name else gates * 50,)
        elif name.endswith("beta"):
            assert ".cell." in name
            assert (parameter == 0).all()
        else:
            assert parameter.abs().max() <= 1 / math.sqrt(50)
            assert parameter.abs().max() > 0.9 / math.sqrt(50)
            assert parameter.mean().abs() < 0.03
    biases = [n for n, _ in layer.named_parameters() if n.startswith("bias_hh")]
    assert bool(biases) == (cell == "GRU")
    assert layer.all_weights[0][0] is layer.weight_ih_l0
    assert len(layer.all_weights) == 4


def test_a_shift_has_an_offset_alone() -> None:
    """The released baseline: BN(c) replaced by c + beta."""
    layer = bnrnn.LSTM(3, 4, norm=Norm(cell=Shift()))
    names = {n for n, _ in layer.named_parameters()}
    assert names == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "norm_l0.cell.beta"}
    assert not list(layer.named_buffers())


def test_the_offset_of_the_cell_shifts_only_what_the_output_sees() -> None:
    layer = bnrnn.LSTM(3, 4, norm=Norm(cell=Shift()), dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    plain, (_, c) = layer(x[:1])
    with torch.no_grad():
        layer.norm_l0["cell"].beta.fill_(0.7)
    shifted, (_, c2) = layer(x[:1])
    torch.testing.assert_close(c2, c, rtol=0, atol=0)
    o = plain / c[0].tanh()
    torch.testing.assert_close(shifted, o * (c[0] + 0.7).tanh())


def test_normalized_sites_have_the_statistics_they_say() -> None:
    """In training the recurrent term has mean 0 and variance gamma^2: seen with W_ih = 0 and an identity for tanh."""
    layer = bnrnn.RNN(1, 3, nonlinearity="relu", norm=Norm(recurrent=BatchNorm(gamma=0.5)), dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.bias_ih_l0.fill_(100.0)  # relu acts as the identity
    h0 = torch.randn(1, 64, 3, dtype=torch.float64)
    output, _ = layer(torch.zeros(4, 64, 1, dtype=torch.float64), h0)
    torch.testing.assert_close(output.mean(1), torch.full((4, 3), 100.0, dtype=torch.float64))
    torch.testing.assert_close(
        output.var(1, unbiased=False).sqrt(), torch.full((4, 3), 0.5, dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_device_and_dtype_of_the_norms() -> None:
    layer = bnrnn.LSTM(3, 4, norm="recurrent", device="meta", dtype=torch.float64)
    assert {t.device.type for t in layer.state_dict().values()} == {"meta"}
    assert {t.dtype for n, t in layer.state_dict().items() if not n.endswith("count")} == {torch.float64}


@pytest.mark.parametrize("norm", [None, "recurrent", "layer"])
def test_attributes_for_programs_written_for_torch(norm: str | None) -> None:
    theirs = torch.nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2)
    ours = bnrnn.LSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2, norm=norm)
    for name in (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    ):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")
@pytest.mark.parametrize("norm", norms.PRESETS)
@pytest.mark.parametrize("cell", CLASSES)
def test_every_preset_runs_on_the_cpu_kernels(cell: str, norm: str) -> None:
    x, results = tensor(6, 4, 3), []
    for backend in ("cpu", "reference"):
        layer = make(cell, 3, 9, 2, norm=norm, bidirectional=True, backend=backend)
        output, _ = layer(x, lengths=[6, 3, 5, 2])
        results.append((output, *torch.autograd.grad(output.square().sum(), list(layer.parameters()))))
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-9)
