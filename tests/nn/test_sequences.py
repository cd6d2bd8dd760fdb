"""What must not matter: padding, the order of the batch, and where a sequence is cut into chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bnrnn
from bnrnn import BatchNorm, LayerNorm, Norm
from build import CLASSES, call, close, make, norms_of, states, tables, tensor

CELLS = st.sampled_from(["LSTM", "GRU", "RNN"])
LENGTHS = st.lists(st.integers(1, 6), min_size=2, max_size=5)
FEATURES, HIDDEN = 3, 4


def run(layer: Any, x: Tensor, hx: tuple[Tensor, ...], lengths: list[int] | None, used: int) -> dict[str, Tensor]:
    """Results, gradients and statistics of one call; only the first ``used`` steps of the input count."""
    x = x.clone().requires_grad_()
    output, final = call(layer, x, hx, lengths=lengths)
    results = {"output": output[:used], **{f"final {k}": f for k, f in enumerate(final)}}
    loss = sum((r * tensor(*r.shape, seed=k)).sum() for k, r in enumerate(results.values()))
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True)
    assert (output[used:] == 0).all()
    assert (gradients[0][used:] == 0).all()
    results["gradient of input"] = gradients[0][:used]
    for (name, _), g in zip(layer.named_parameters(), gradients[1:], strict=True):
        results[f"gradient of {name}"] = torch.zeros(()) if g is None else g
    for name, own in tables(layer).items():
        results |= {f"{name}.{key}": value for key, value in own.items()}
    return results


def same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@st.composite
def layers(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A cell's name, and options of its constructor."""
    cell = draw(CELLS)
    norm = draw(st.sampled_from(sorted(norms_of(cell))))
    options = {
        "norm": norms_of(cell)[norm],
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "backend": draw(st.sampled_from(["auto", "reference"])),
    }
    if cell == "LSTM" and draw(st.booleans()):
        options["proj_size"] = 2
    return cell, options


@given(
    layers(),
    LENGTHS,
    st.integers(0, 3),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e300, -7.0]),
    st.booleans(),
)
def test_padding_does_not_matter(
    case: tuple[str, dict[str, Any]], lengths: list[int], more: int, filler: float, training: bool
) -> None:
    cell, options = case
    steps, batch = max(lengths), len(lengths)
    x = tensor(steps, batch, FEATURES)
    padded = torch.cat([x, torch.zeros(more, batch, FEATURES)])
    clean = x.clone()
    for row, length in enumerate(lengths):
        padded[length:, row] = filler
        clean[length:, row] = 0
    results = []
    for own in (clean, padded):
        layer = make(cell, FEATURES, HIDDEN, statistics=0 if training else 4, **options).train(training)
        results.append(run(layer, own, states(layer, batch), lengths, steps))
    same(results[1], results[0])
    for row, length in enumerate(lengths):
        assert (results[1]["output"][length:, row] == 0).all()
        assert (results[1]["gradient of input"][length:, row] == 0).all()
    assert all(value.isfinite().all() for value in results[1].values())


@given(layers(), LENGTHS, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(
    case: tuple[str, dict[str, Any]], lengths: list[int], training: bool, random: Any
) -> None:
    cell, options = case
    order = list(range(len(lengths)))
    random.shuffle(order)
    x = tensor(max(lengths), len(lengths), FEATURES)
    outcomes = []
    for at in (list(range(len(lengths))), order):
        layer = make(cell, FEATURES, HIDDEN, statistics=0 if training else 4, **options).train(training)
        hx = tuple(s[:, at] for s in states(layer, len(lengths)))
        output, final = call(layer, x[:, at], hx, lengths=[lengths[k] for k in at])
        back = np.argsort(at)
        outcomes.append(
            {
                "output": output[:, back],
                **{f"final {k}": f[:, back] for k, f in enumerate(final)},
                **{f"{name}.{key}": v for name, own in tables(layer).items() for key, v in own.items()},
            }
        )
    same(outcomes[1], outcomes[0])


@given(layers(), LENGTHS)
def test_a_batch_in_eval_is_each_sequence_alone(case: tuple[str, dict[str, Any]], lengths: list[int]) -> None:
    """So the reverse direction starts at each sequence's own last valid step, and final states are those at its end."""
    cell, options = case
    layer = make(cell, FEATURES, HIDDEN, statistics=4, **options).eval()
    x, hx = tensor(max(lengths), len(lengths), FEATURES), states(layer, len(lengths))
    output, final = call(layer, x, hx, lengths=torch.tensor(lengths, dtype=torch.int32))
    for row, length in enumerate(lengths):
        alone, end = call(layer, x[:length, row], tuple(s[:, row] for s in hx))
        close(output[:length, row], alone)
        for f, e in zip(final, end, strict=True):
            close(f[:, row], e)


@given(layers(), st.integers(2, 9), st.data())
def test_chunks_in_eval_are_the_whole(case: tuple[str, dict[str, Any]], steps: int, data: st.DataObject) -> None:
    cell, options = case
    options["bidirectional"] = False
    layer = make(cell, FEATURES, HIDDEN, statistics=5, **options).eval()
    x, state = tensor(steps, 3, FEATURES), states(layer, 3)
    expected, end = call(layer, x, state)
    at, pieces = 0, []
    while at < steps:
        length = data.draw(st.integers(1, steps - at))
        piece, state = call(layer, x[at : at + length], state, start_step=at)
        pieces.append(piece)
        at += length
    close(torch.cat(pieces), expected, 1e-13)
    for f, e in zip(state, end, strict=True):
        close(f, e, 1e-13)


FRAMEWISE = [
    "recurrent",
    "input-frame",
    "summed",
    "layer",
    Norm(recurrent=BatchNorm(), input=LayerNorm()),
]


@given(CELLS, st.sampled_from(FRAMEWISE), st.integers(1, 2), st.integers(0, 4), st.data())
def test_chunks_in_training_take_the_statistics_of_their_absolute_steps(
    cell: str, norm: Any, num_layers: int, rows: int, data: st.DataObject
) -> None:
    """Outputs, states, gradients and tables of chunks are those of the whole, also after an earlier batch."""
    steps = 6
    whole, chunked = (make(cell, FEATURES, HIDDEN, num_layers, norm=norm, statistics=rows) for _ in range(2))
    x = tensor(steps, 4, FEATURES)
    expected, end = call(whole, x, states(whole, 4))
    state, at, pieces = states(chunked, 4), 0, []
    while at < steps:
        length = data.draw(st.integers(1, steps - at))
        piece, state = call(chunked, x[at : at + length], state, start_step=at)
        pieces.append(piece)
        at += length
    actual = torch.cat(pieces)
    close(actual, expected)
    for f, e in zip(state, end, strict=True):
        close(f, e)
    cotangent = tensor(*expected.shape, seed=2)
    for a, e in zip(
        torch.autograd.grad((actual * cotangent).sum(), list(chunked.parameters())),
        torch.autograd.grad((expected * cotangent).sum(), list(whole.parameters())),
        strict=True,
    ):
        close(a, e, 1e-9)
    for name, own in tables(whole).items():
        for key, value in own.items():
            close(tables(chunked)[name][key], value)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", [None, "recurrent", "input-sequence", "layer"])
def test_streaming_one_step_at_a_time(cell: str, norm: str | None) -> None:
    """Unbatched single steps, well beyond the table's end."""
    layer = make(cell, FEATURES, HIDDEN, 2, norm=norm, statistics=3).eval()
    x = tensor(8, FEATURES)
    expected, end = call(layer, x)
    state = None
    with torch.no_grad():
        for t in range(8):
            y, state = call(layer, x[t : t + 1], state, start_step=t)
            close(y, expected[t : t + 1], 1e-13)
    for f, e in zip(state, end, strict=True):
        close(f, e, 1e-13)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_start_step_matters(cell: str) -> None:
    layer = make(cell, FEATURES, HIDDEN, norm="recurrent", statistics=6).eval()
    x, hx = tensor(2, 3, FEATURES), states(layer, 3)
    outputs = [call(layer, x, hx, start_step=s)[0] for s in (0, 3, 5, 50, 10**9)]
    assert all((outputs[0] - other).abs().max() > 1e-3 for other in outputs[1:])
    assert (outputs[1] - outputs[3]).abs().max() > 1e-3
    close(outputs[4], outputs[3], 0)  # both beyond the last row
    close(outputs[2], outputs[3], 0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_one_long_row_takes_over_the_last_statistics(cell: str) -> None:
    """Where a single row is left for long, nothing blows up and no table row is written."""
    layer = make(cell, FEATURES, HIDDEN, norm="recurrent").train()
    x = tensor(60, 3, FEATURES).requires_grad_()
    output, _ = call(layer, x, lengths=[60, 3, 4])
    (gradient,) = torch.autograd.grad((output * tensor(60, 3, HIDDEN)).sum(), x)
    assert output.abs().max() <= 1
    assert gradient.isfinite().all()
    assert all(own["count"].tolist() == [1] * 4 for own in tables(layer).values())
    # The rest of the long row is an evaluation with the last statistics that had enough rows.
    _, taken = call(make(cell, FEATURES, HIDDEN, norm="recurrent"), x[:4], lengths=[4, 3, 4])
    rest, _ = call(layer.eval(), x[4:, :1], tuple(s[:, :1] for s in taken), start_step=4)
    close(output[4:, :1], rest)


@pytest.mark.parametrize("norm", ["recurrent", "sequence-input"])
def test_padding_of_integers_may_hold_anything(norm: str) -> None:
    layers_ = [make("LSTM", 5, HIDDEN, norm=norm, bidirectional=True) for _ in range(2)]
    tokens = torch.randint(5, (6, 3), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    for row, length in enumerate((2, 6, 3)):
        other[length:, row] = (-100, 10**6, 4)[row]
    results = [call(layer, t, lengths=[2, 6, 3]) for layer, t in zip(layers_, (tokens, other), strict=True)]
    close(results[1][0], results[0][0], 0)
    for a, e in zip(results[1][1], results[0][1], strict=True):
        close(a, e, 0)
    for name, own in tables(layers_[0]).items():
        for key, value in own.items():
            close(tables(layers_[1])[name][key], value, 0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_lengths_may_be_given_in_any_form(cell: str) -> None:
    layer = make(cell, FEATURES, HIDDEN, norm="layer")
    x = tensor(5, 3, FEATURES)
    expected = call(layer, x, lengths=[5, 2, 3])[0]
    for lengths in ((5, 2, 3), torch.tensor([5, 2, 3]), torch.tensor([5, 2, 3], dtype=torch.uint8)):
        close(call(layer, x, lengths=lengths)[0], expected, 0)
    close(call(layer, x, lengths=[5, 5, 5])[0], call(layer, x)[0], 0)
    close(call(layer, x, lengths=range(3, 6))[0], call(layer, x, lengths=[3, 4, 5])[0], 0)


@pytest.mark.parametrize("norm", ["recurrent", "sequence-input", "summed", "input-frame", "layer"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_constant_input_has_zero_variance_and_finite_gradients(cell: str, norm: str) -> None:
    """All rows alike: every normalized value is its site's offset, whatever the weights; both passes stay finite."""
    layer = make(cell, FEATURES, HIDDEN, 2, norm=norm, bidirectional=True)
    x = torch.full((7, 4, FEATURES), 0.7, dtype=torch.float64, requires_grad=True)
    output, final = call(layer, x)
    loss = sum((r * tensor(*r.shape, seed=k)).sum() for k, r in enumerate((output, *final)))
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
    assert all(g.isfinite().all() for g in gradients)
    assert (output - output[:, :1]).abs().max() < 1e-12
    if norm in ("recurrent", "summed") and cell == "RNN":
        close(output[..., :HIDDEN], layer.bias_ih_l1.tanh().expand(7, 4, HIDDEN))
    if norm == "recurrent" and cell == "LSTM":
        i, f, g, o = layer.bias_ih_l1.chunk(4)
        h = o.sigmoid() * layer.norm_l1["cell"].beta.tanh()
        close(output[..., :HIDDEN], h.expand(7, 4, HIDDEN))
        c = torch.zeros(HIDDEN, dtype=torch.float64)
        for _ in range(7):
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        close(final[1][2], c.expand(4, HIDDEN))
    for name, own in tables(layer).items():
        if norm != "sequence-input" or "_l0.input" in name:  # over the steps the outputs of layer 0 do vary
            assert own["var"].max() < 1e-28


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_a_thousand_steps_as_built_stay_finite(cell: str) -> None:
    torch.manual_seed(0)
    layer = CLASSES[cell](1, 4, norm="recurrent")
    x = tensor(1000, 8, 1, dtype=torch.float32).requires_grad_()
    output, _ = call(layer, x)
    (output * tensor(1000, 8, 4, dtype=torch.float32)).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert x.grad.isfinite().all()
    assert layer.norm_l0["recurrent"].rows_in_use == 1000


def test_the_batch_may_change_from_call_to_call() -> None:
    """Batch size and length belong to a call, not to the layer."""
    layer = make("LSTM", FEATURES, HIDDEN, norm="recurrent")
    for steps, batch in ((3, 5), (6, 2), (1, 9)):
        output, _ = call(layer, tensor(steps, batch, FEATURES))
        assert output.shape == (steps, batch, HIDDEN)
    assert tables(layer)["norm_l0.input"]["count"].tolist() == [3, 2, 2, 1, 1, 1]
    with bnrnn.batch_statistics(layer):
        call(layer, tensor(9, 2, FEATURES))
    assert tables(layer)["norm_l0.input"]["count"].tolist() == [3, 2, 2, 1, 1, 1]


@given(layers(), st.integers(1, 8), st.integers(0, 4))
def test_a_stream_is_the_whole(case: tuple[str, dict[str, Any]], steps: int, start: int) -> None:
    """``layer.stream()`` lays the statistics out once; its numbers are the layer's, from any step on."""
    cell, options = case
    options["bidirectional"] = False
    layer = make(cell, FEATURES, HIDDEN, statistics=5, zoneout=0.2, **options).eval()
    x, hx = tensor(steps, 3, FEATURES), states(layer, 3)
    expected, end = call(layer, x, hx, start_step=start)
    stream = layer.stream(hx if cell == "LSTM" else hx[0], start_step=start)
    close(torch.stack([stream(x_t) for x_t in x]), expected, 1e-12)
    assert stream.step == start + steps
    final = stream.state if cell == "LSTM" else (stream.state,)
    for f, e in zip(final, end, strict=True):
        close(f, e, 1e-12)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_stream_may_be_set_to_another_step(cell: str, backend: str) -> None:
    layer = make(cell, FEATURES, HIDDEN, norm="recurrent", statistics=6, backend=backend).eval()
    x = tensor(2, 3, FEATURES)
    stream = layer.stream()
    stream(x[0])
    before = stream.state
    stream.step = 4
    expected, _ = call(layer, x[1:], before if cell == "LSTM" else (before,), start_step=4)
    close(stream(x[1]), expected[0], 1e-12)
    with pytest.raises(ValueError, match="start_step must not be negative, got -2"):
        stream.step = -2
    assert stream.step == 5


@pytest.mark.parametrize("norm", ["recurrent", "layer"])
def test_a_stream_wants_population_statistics(norm: str) -> None:
    layer = make("LSTM", FEATURES, HIDDEN, norm=norm, statistics=3).eval()
    with bnrnn.batch_statistics(layer):
        if norm == "layer":
            assert layer.stream()(tensor(2, FEATURES)).shape == (2, HIDDEN)
        else:
            with pytest.raises(RuntimeError, match="layer: a stream uses population statistics"):
                layer.stream()
    layer.stream()
