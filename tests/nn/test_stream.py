"""A stream gives the layer's numbers, one time step a call."""

from __future__ import annotations

import itertools

import pytest
import torch

import bnrnn

LAYERS = {
    "LSTM": (bnrnn.LSTM, {}),
    "LSTM-projected": (bnrnn.LSTM, {"proj_size": 3, "zoneout": (0.1, 0.3)}),
    "LSTM-zoneout": (bnrnn.LSTM, {"zoneout": (0.1, 0.3)}),
    "GRU": (bnrnn.GRU, {"zoneout": 0.2}),
    "GRU-unbiased": (bnrnn.GRU, {"bias": False}),
    "RNN": (bnrnn.RNN, {}),
    "RNN-relu": (bnrnn.RNN, {"nonlinearity": "relu", "batch_first": True}),
}
NORMS = [None, "recurrent", "input-frame", "input-sequence", "sequence-input", "summed", "layer"]


def trained(name, norm, backend="auto", dtype=torch.float64, hidden=7):
    """A layer with arbitrary weights and the statistics of six steps, in evaluation."""
    cls, options = LAYERS[name]
    torch.manual_seed(1)
    layer = cls(5, hidden, 2, norm=norm, backend=backend, dtype=dtype, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    layer(torch.randn((6, 4, 5) if not layer.batch_first else (4, 6, 5), dtype=dtype))
    return layer.eval()


def tuple_of(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("name", "norm"), list(itertools.product(LAYERS, NORMS)))
def test_stream_equals_the_layer_beyond_the_table(name, norm, backend):
    layer = trained(name, norm, backend)
    x = torch.randn(9, 3, 5, dtype=torch.float64)
    output, state = layer(x.transpose(0, 1) if layer.batch_first else x)
    expected = output.transpose(0, 1) if layer.batch_first else output
    stream = layer.stream()
    torch.testing.assert_close(torch.stack([stream(x_t) for x_t in x]), expected, rtol=1e-10, atol=1e-10)
    assert stream.step == 9
    for ours, theirs in zip(tuple_of(stream.state), tuple_of(state), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("hidden", [1, 8, 33])
def test_stream_goes_on_from_a_state_in_every_precision(dtype, hidden):
    layer = trained("LSTM", "recurrent", dtype=dtype, hidden=hidden)
    x = torch.randn(8, 3, 5).to(dtype)
    _, state = layer(x[:3])
    expected, _ = layer(x[3:], state, start_step=3)
    stream = layer.stream(state, start_step=3)
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-10, torch.bfloat16: 0.1}[dtype]
    output = torch.stack([stream(x_t) for x_t in x[3:]])
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("norm", ["recurrent", "layer", None])
def test_integers_stand_for_one_hot_rows(norm, dtype):
    layer = trained("LSTM", norm)
    tokens = torch.randint(0, 5, (9, 3))
    expected, _ = layer(torch.nn.functional.one_hot(tokens, 5).double())
    stream = layer.stream()
    output = torch.stack([stream(t) for t in tokens.to(dtype)])
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


def test_a_stream_keeps_no_graph_and_leaves_the_layer_alone():
    layer = trained("LSTM", "recurrent")
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    stream = layer.stream()
    output = stream(torch.randn(2, 5, dtype=torch.float64))
    assert not output.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: bnrnn.LSTM(5, 7, bidirectional=True).eval().stream(), ValueError, "layer: a bidirectional"),
        (lambda: bnrnn.LSTM(5, 7).stream(), RuntimeError, "eval"),
        (lambda: bnrnn.LSTM(5, 7).eval().stream(start_step=-1), ValueError, "start_step must not be negative, got -1"),
        (
            lambda: bnrnn.LSTM(5, 7).eval().stream()(torch.randn(3, 4)),
            ValueError,
            r"input must have shape .*5.*\(3, 4\)",
        ),
        (lambda: bnrnn.LSTM(5, 7).eval().stream()(torch.tensor([5])), ValueError, r"\[0, 5\), got 5 to 5"),
        (
            lambda: bnrnn.GRU(5, 7).eval().stream(torch.zeros(2, 3, 7))(torch.randn(3, 5)),
            ValueError,
            r"h_0 must have shape \(1, 3, 7\), got \(2, 3, 7\)",
        ),
    ],
)
def test_bad_streams(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_later_step_of_another_batch_is_an_error():
    stream = bnrnn.GRU(5, 7).eval().stream()
    stream(torch.randn(3, 5))
    with pytest.raises(ValueError, match=r"h_0 must have shape \(1, 2, 7\), got \(1, 3, 7\)"):
        stream(torch.randn(2, 5))
    with pytest.raises(ValueError, match="float64"):
        stream(torch.randn(3, 5, dtype=torch.float64))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_later_index_out_of_range_is_an_error(backend):
    stream = bnrnn.GRU(5, 7, backend=backend).eval().stream()
    stream(torch.tensor([0, 4]))
    with pytest.raises((RuntimeError, ValueError), match=r"index 5 is not|integers must be in \[0, 5\), got 0 to 5"):
        stream(torch.tensor([0, 5]))


@pytest.mark.parametrize("name", ["LSTM", "LSTM-projected"])
def test_a_stream_without_statistics_warns_once_and_is_the_layer(name):
    cls, options = LAYERS[name]
    layer = cls(5, 7, norm="recurrent", dtype=torch.float64, **options).eval()
    with pytest.warns(UserWarning, match="never set"):
        stream = layer.stream()
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([stream(x_t) for x_t in x]), layer(x)[0])


def test_a_stream_reads_the_rows_in_use():
    layer = trained("LSTM", "recurrent")
    site = layer.norm_l0["recurrent"]
    assert (site.rows_in_use, len(site.mean)) == (6, 64)
    with torch.no_grad():
        for other in (s for norms in (layer.norm_l0, layer.norm_l1) for s in norms.values()):
            other.mean[6:] = float("nan")
    stream, x = layer.stream(), torch.randn(9, 3, 5, dtype=torch.float64)
    assert torch.stack([stream(x_t) for x_t in x]).isfinite().all()
