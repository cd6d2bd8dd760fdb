"""Dtypes and devices: reduced precision keeps statistics and cell arithmetic in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bnrnn
from build import CLASSES, call, close, make, states, tables, tensor

CELLS = ["LSTM", "GRU", "RNN"]
NORMS = ["recurrent", "sequence-input", "summed", "layer"]


def reduced(cell: str, norm: str | None, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """A float64 layer whose numbers are exact in ``dtype``, and the same in that dtype."""
    exact = make(cell, 3, 4, norm=norm, statistics=4, **options)
    with torch.no_grad():
        for p in exact.parameters():
            p.copy_(p.to(dtype))
    layer = make(cell, 3, 4, norm=norm, dtype=torch.float32, statistics=4, **options).to(dtype)
    layer.load_state_dict(exact.state_dict())
    return exact, layer


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_of_reduced_precision(cell: str, norm: str, dtype: torch.dtype, training: bool) -> None:
    exact, layer = reduced(cell, norm, dtype, num_layers=2, bidirectional=True)
    exact.train(training)
    layer.train(training)
    x, hx = tensor(5, 6, 3).to(dtype), tuple(s.to(dtype) for s in states(exact, 6))
    output, final = call(layer, x, hx, lengths=[5, 3, 5, 5, 4, 5])
    expected, end = call(exact, x.double(), tuple(s.double() for s in hx), lengths=[5, 3, 5, 5, 4, 5])
    tolerance = 0.1 if dtype == torch.bfloat16 else 0.02
    for actual, value in zip((output, *final), (expected, *end), strict=True):
        assert actual.dtype == dtype
        assert (actual.double() - value).abs().mean() < tolerance / 4
        assert (actual.double() - value).abs().max() < 3 * tolerance
    for name, own in tables(layer).items():
        assert own["mean"].dtype == own["var"].dtype == torch.float32
        torch.testing.assert_close(own["mean"].double(), tables(exact)[name]["mean"], atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(own["var"].double(), tables(exact)[name]["var"], atol=tolerance, rtol=tolerance)
    (output.double() * tensor(*output.shape)).sum().backward()
    assert all(p.grad is None or p.grad.dtype == dtype for p in layer.parameters())


@pytest.mark.parametrize("convert", ["bfloat16", "half", "float", "double"])
def test_conversion_keeps_the_statistics(convert: str) -> None:
    layer = make("LSTM", 3, 4, norm="recurrent", statistics=3, dtype=torch.float32)
    before = tables(layer)
    getattr(layer, convert)()
    dtype = {"half": torch.float16}.get(convert) or getattr(torch, convert)
    wanted = torch.promote_types(dtype, torch.float32)
    for name, own in tables(layer).items():
        assert own["mean"].dtype == own["var"].dtype == wanted
        assert own["count"].dtype == torch.int64
        close(own["mean"].float(), before[name]["mean"], 0)
        close(own["var"].float(), before[name]["var"], 0)
    assert layer.norm_l0["cell"].gamma.dtype == layer.weight_hh_l0.dtype == dtype
    assert call(layer, tensor(2, 3, 3, dtype=dtype))[0].dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_construction_in_a_dtype(dtype: torch.dtype) -> None:
    layer = bnrnn.GRU(3, 4, norm="recurrent", dtype=dtype)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert layer.norm_l0["input"].mean.dtype == torch.promote_types(dtype, torch.float32)


def test_the_default_dtype_is_torchs() -> None:
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        layer = bnrnn.RNN(3, 4, norm="recurrent")
    finally:
        torch.set_default_dtype(before)
    assert layer.weight_ih_l0.dtype == layer.norm_l0["input"].mean.dtype == torch.float64


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_autocast(cell: str, norm: str, training: bool) -> None:
    """Products in bfloat16; states, statistics and what is remembered of them in float32."""
    plain, cast = (
        make(cell, 3, 8, 2, norm=norm, bidirectional=True, dtype=torch.float32, statistics=4).train(training)
        for _ in range(2)
    )
    x = tensor(5, 16, 3, dtype=torch.float32)
    hx = tuple(s.float() for s in states(plain, 16))
    expected, end = call(plain, x, hx)
    with torch.autocast("cpu", torch.bfloat16):
        output, final = call(cast, x, hx)
        with bnrnn.batch_statistics(cast):
            again, _ = call(cast, x.bfloat16())
    assert output.dtype == again.dtype == torch.bfloat16
    assert {f.dtype for f in final} == {torch.float32}
    for actual, value in zip((output, *final), (expected, *end), strict=True):
        assert (actual.float() - value).abs().mean() < 0.02
        assert (actual.float() - value).abs().max() < 0.3
    for name, own in tables(cast).items():
        assert own["mean"].dtype == own["var"].dtype == torch.float32
        assert (own["mean"] - tables(plain)[name]["mean"]).abs().mean() < 0.02
    output.float().square().sum().backward()
    assert {p.grad.dtype for p in cast.parameters() if p.grad is not None} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in cast.parameters() if p.grad is not None)


def test_statistics_are_not_taken_in_bfloat16() -> None:
    """A mean of 256 rows around 100 with a spread of 0.1 is lost in bfloat16 arithmetic, not in float32."""
    layer = make("RNN", 1, 1, norm="input-frame", dtype=torch.float32)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
    x = 100 + 0.5 * tensor(1, 256, 1, dtype=torch.float32)
    rounded = x.bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        call(layer, x)
    own = tables(layer)["norm_l0.input"]
    close(own["mean"], rounded.mean(1), 1e-6)
    close(own["var"], rounded.var(1, unbiased=False), 1e-5)


def test_variance_in_two_passes() -> None:
    """E[x^2] - E[x]^2 would cancel in float32 where the mean is large."""
    layer = make("RNN", 1, 1, norm="recurrent", dtype=torch.float32)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
    x = 1000 + 0.01 * tensor(2, 64, 1, dtype=torch.float32)
    call(layer, x)
    call(layer, x, lengths=[1] * 32 + [2] * 32)
    first, second = x.double()
    variances = [v.var(0, unbiased=False) for v in (first, second, second[32:])]
    expected = torch.stack([variances[0], (variances[1] + variances[2]) / 2])
    torch.testing.assert_close(tables(layer)["norm_l0.input"]["var"].double(), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_autocast_without_a_norm_is_torchs(cell: str) -> None:
    theirs = getattr(nn, cell)(3, 4, 2)
    ours, auto = (CLASSES[cell].from_torch(theirs, backend=backend) for backend in ("torch", "auto"))
    x = tensor(5, 6, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected, actual = theirs(x), ours(x)
        close(auto(x)[0].float(), expected[0].float(), 0.02)
    assert actual[0].dtype == expected[0].dtype
    assert torch.equal(actual[0], expected[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, *NORMS])
def test_meta_device(cell: str, norm: str | None) -> None:
    """Built without memory, then given some and loaded."""
    layer = CLASSES[cell](3, 4, 2, bidirectional=True, norm=norm, device="meta")
    assert {t.device.type for t in (*layer.parameters(), *layer.buffers())} == {"meta"}
    source = make(cell, 3, 4, 2, bidirectional=True, norm=norm, dtype=torch.float32, statistics=3)
    layer.to_empty(device="cpu").load_state_dict(source.state_dict())
    x = tensor(4, 3, 3, dtype=torch.float32)
    assert torch.equal(call(layer.eval(), x)[0], call(source.eval(), x)[0])
    assigned = CLASSES[cell](3, 4, 2, bidirectional=True, norm=norm, device="meta")
    assigned.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(call(assigned.eval(), x)[0], call(source, x)[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["recurrent", "sequence-input", "summed", "layer"])
@pytest.mark.parametrize("lengths", [None, [5, 1, 2, 2, 1, 4]])
def test_every_tensor_is_on_the_inputs_device(cell: str, norm: str, lengths: list[int] | None) -> None:
    """Lengths are worked with on the CPU; nothing else is: on the meta device a tensor astray would be an error."""
    options = {"zoneout": 0.1, "recurrent_dropout": 0.1, "dropout": 0.1}
    layer = CLASSES[cell](3, 4, 2, bidirectional=True, norm=norm, device="meta", **options)
    output, final = call(layer, torch.empty(5, 6, 3, device="meta"), lengths=lengths)
    assert {t.device.type for t in (*layer.buffers(), *final)} <= {"meta"}
    assert output.shape == (5, 6, 8)
    assert output.device.type == "meta"
    assert {tuple(f.shape) for f in final} == {(4, 6, 4)}


@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_close_to_float64(cell: str) -> None:
    layer, exact = (make(cell, 3, 4, 2, norm="recurrent", dtype=d) for d in (torch.float32, torch.float64))
    x = tensor(9, 6, 3, dtype=torch.float32)
    torch.testing.assert_close(call(layer, x)[0].double(), call(exact, x.double())[0], rtol=1e-3, atol=1e-3)
