"""Whole layers against the NumPy version: outputs, states, statistics, and the gradient of every argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from bnrnn import BatchNorm, Norm
from bnrnn.ops.cells import Cell
from bnrnn.ops.recurrence import Recurrence, recur
from build import LSTM_NORMS, NORMS, call, close, make, norms_of, numpy_call, numpy_state, states, tables, tensor

STEPS, BATCH = 5, 4
RAGGED = [2, 5, 3, 5]
ALONE = [1, 5, 3, 2]  # a single row is left from the fourth step on


def compare(layer: Any, x: Tensor, hx: tuple[Tensor, ...], lengths: list[int] | None, **numpy_options: Any) -> None:
    """Forward and backward of one call against the NumPy version, with random cotangents."""
    inputs = {"x": x, **{f"hx{k}": h for k, h in enumerate(hx)}}
    for value in inputs.values():
        value.requires_grad_()
    start = numpy_options.get("start", 0)
    output, final = call(layer, x, hx, lengths=lengths, start_step=start)
    results = [output, *final]
    cotangents = [tensor(*r.shape, seed=70 + k) for k, r in enumerate(results)]
    parameters = dict(layer.named_parameters())
    sources = {**inputs, **parameters}
    gradients = torch.autograd.grad(
        sum((r * v).sum() for r, v in zip(results, cotangents, strict=True)), list(sources.values()), allow_unused=True
    )

    buffers = {k: v for k, v in numpy_state(layer).items() if k not in parameters}
    arrays = {name: value.detach().numpy() for name, value in sources.items()}

    def run(at: dict[str, np.ndarray]) -> tuple[list[np.ndarray], Any]:
        own = {**buffers, **{k: at[k] for k in parameters}}
        states_at = [at[f"hx{k}"] for k in range(len(hx))]
        y, end, taken = numpy_call(layer, at["x"], states_at, own, lengths=lengths, **numpy_options)
        return [y, *end], taken

    def scalar(at: dict[str, np.ndarray]) -> np.ndarray:
        return sum((r * v.numpy()).sum() for r, v in zip(run(at)[0], cotangents, strict=True))

    expected, _ = run(arrays)
    for r, e in zip(results, expected, strict=True):
        close(r, e)
    rng = np.random.default_rng(3)
    for (name, value), gradient in zip(arrays.items(), gradients, strict=True):
        direction = rng.standard_normal(value.shape)
        slope = reference.directional(scalar, arrays, name, direction)
        along = 0.0 if gradient is None else float((gradient.numpy() * direction).sum())
        assert along == pytest.approx(slope, rel=1e-8, abs=1e-8), name


CASES = [
    pytest.param(cell, norm, layers, bidirectional, lengths, projection, id=f"{cell}-{norm}-{layers}-{tag}")
    for cell in ("LSTM", "GRU", "RNN")
    for norm in norms_of(cell)
    for layers, bidirectional, lengths, projection, tag in (
        (1, False, None, 0, "plain"),
        (1, False, RAGGED, 3, "lengths-projection"),
        (2, True, ALONE, 0, "both directions-borrowed"),
        (2, True, None, 2, "both directions-projection"),
    )
    if not (projection and cell != "LSTM") or lengths is not None
]


@pytest.mark.parametrize(("cell", "norm", "layers", "bidirectional", "lengths", "projection"), CASES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_outputs_states_and_gradients(
    cell: str,
    norm: str,
    layers: int,
    bidirectional: bool,
    lengths: list[int] | None,
    projection: int,
    training: bool,
    backend: str,
) -> None:
    options = {"bidirectional": bidirectional, "norm": norms_of(cell)[norm], "backend": backend}
    if projection and cell == "LSTM":
        options["proj_size"] = projection
    layer = make(cell, 3, 5, layers, statistics=3, **options).train(training)
    compare(layer, tensor(STEPS, BATCH, 3), states(layer, BATCH), lengths)


@pytest.mark.parametrize("norm", ["none", "recurrent", "summed", "layer"])
def test_relu_rnn(norm: str) -> None:
    layer = make("RNN", 3, 5, nonlinearity="relu", norm=NORMS[norm], num_layers=2)
    compare(layer, tensor(STEPS, BATCH, 3), states(layer, BATCH), RAGGED)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["none", "recurrent", "layer"])
@pytest.mark.parametrize("sizes", [(1, 1, 2, 1), (1, 7, 3, 2), (13, 1, 2, 3), (2, 17, 9, 1)], ids=str)
def test_odd_sizes(cell: str, norm: str, sizes: tuple[int, int, int, int]) -> None:
    features, hidden, batch, steps = sizes
    layer = make(cell, features, hidden, norm=NORMS[norm])
    compare(layer, tensor(steps, batch, features), states(layer, batch), None)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["none", "recurrent", "layer", "summed"])
def test_without_bias(cell: str, norm: str) -> None:
    layer = make(cell, 3, 4, bias=False, norm=NORMS[norm])
    assert not [name for name, _ in layer.named_parameters() if name.startswith("bias")]
    # norm=None goes through the recurrence, not torch's kernels, where there are lengths
    compare(layer, tensor(STEPS, BATCH, 3), states(layer, BATCH), RAGGED)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["none", "recurrent", "sequence-input", "layer"])
def test_zoneout_and_recurrent_dropout(cell: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks are drawn once a call; given them, the numbers are the NumPy version's."""
    zoneout = (0.3, 0.6) if cell == "LSTM" else 0.4
    layer = make(cell, 3, 5, 2, bidirectional=True, norm=NORMS[norm], zoneout=zoneout, recurrent_dropout=0.4)
    calls: list[Recurrence] = []

    def spy(cell: Cell, call: Recurrence, *others: Any) -> Any:
        calls.append(call)
        return recur(cell, call, *others)

    monkeypatch.setattr("bnrnn.nn.recurrent.recur", spy)
    torch.manual_seed(5)
    call(layer, tensor(STEPS, BATCH, 3), lengths=RAGGED)
    suffixes = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    masks = {s: c.recurrent_mask.numpy() for s, c in zip(suffixes, calls, strict=True)}  # type: ignore[union-attr]
    zones = {s: tuple(z.numpy() for z in c.zoneout) for s, c in zip(suffixes, calls, strict=True)}  # type: ignore[union-attr]
    order = np.argsort(-np.array(RAGGED), kind="stable")  # the recurrence gets its rows sorted by length
    back = np.argsort(order)
    masks = {s: m[back] for s, m in masks.items()}
    zones = {s: tuple(z[:, back] for z in pair) for s, pair in zones.items()}
    monkeypatch.undo()
    for m in masks.values():
        assert set(np.unique(m.round(12))) <= {0, round(1 / 0.6, 12)}
    torch.manual_seed(5)
    hx = tuple(torch.zeros_like(s) for s in states(layer, BATCH))
    compare(layer, tensor(STEPS, BATCH, 3), hx, RAGGED, masks=masks, zoneout=zones)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["none", "recurrent", "layer"])
def test_zoneout_expectation_in_eval(cell: str, norm: str) -> None:
    zoneout = (0.3, 0.6) if cell == "LSTM" else 0.4
    layer = make(
        cell, 3, 5, norm=NORMS[norm], zoneout=zoneout, recurrent_dropout=0.5, statistics=4, bidirectional=True
    ).eval()
    compare(layer, tensor(STEPS, BATCH, 3), states(layer, BATCH), RAGGED)


def test_lstm_zoneout_pair_is_cell_then_hidden() -> None:
    """With the hidden state all but frozen, outputs hardly move; with the cell all but frozen, the cell does not."""
    x, hx = tensor(6, 3, 2), None
    hidden = make("LSTM", 2, 4, zoneout=(0.0, 0.999)).eval()
    _, (h, c) = call(hidden, x, hx)
    assert h.abs().max() < 0.01 < 0.1 < c.abs().max()
    cell = make("LSTM", 2, 4, zoneout=(0.999, 0.0)).eval()
    _, (h, c) = call(cell, x, hx)
    assert c.abs().max() < 0.01 < 0.1 < h.abs().max()


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["recurrent", "input-sequence", "sequence-input", "summed"])
@pytest.mark.parametrize("lengths", [None, RAGGED, ALONE], ids=["full", "ragged", "alone"])
@pytest.mark.parametrize("layers", [1, 2])
def test_statistics_of_each_layer_and_direction(cell: str, norm: str, lengths: list[int] | None, layers: int) -> None:
    """After one training batch the tables hold its means and biased variances, for the steps that had enough rows."""
    layer = make(cell, 3, 5, layers, bidirectional=True, norm=NORMS[norm])
    x, hx = tensor(STEPS, BATCH, 3), states(layer, BATCH)
    call(layer, x, hx, lengths=lengths)
    _, _, taken = numpy_call(layer, x.numpy(), [h.numpy() for h in hx], lengths=lengths)
    seen = tables(layer)
    sites = {f"norm{suffix}.{name}": value for suffix, own in taken.items() for name, value in own.items()}
    assert seen.keys() == sites.keys()
    for name, (mean, var) in sites.items():
        close(seen[name]["mean"], mean)
        close(seen[name]["var"], var)
        assert seen[name]["count"].tolist() == [1] * len(mean)
        assert len(mean) == (1 if mean.shape[0] == 1 else 3 if lengths == ALONE else STEPS)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_min_rows_of_three(cell: str) -> None:
    """The user's least number of rows decides from which step on statistics are borrowed."""
    site = BatchNorm("frame", gamma=0.7, min_rows=3)
    layer = make(cell, 3, 5, norm=Norm(input=site, recurrent=site))
    compare(layer, tensor(STEPS, BATCH, 3), states(layer, BATCH), [1, 5, 3, 5])
    assert tables(layer)["norm_l0.input"]["count"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["none", "recurrent", "input-sequence", "layer"])
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
def test_integers_are_one_hot_rows(cell: str, norm: str, lengths: list[int] | None) -> None:
    layer = make(cell, 6, 5, 2, norm=NORMS[norm], bidirectional=True)
    tokens = torch.randint(6, (STEPS, BATCH), generator=torch.Generator().manual_seed(2))
    one_hot = torch.nn.functional.one_hot(tokens, 6).double()
    cotangent = tensor(STEPS, BATCH, 10)
    results = {}
    for name, x in (("tokens", tokens), ("int32", tokens.int()), ("one-hot", one_hot)):
        layer.zero_grad()
        output, final = call(layer, x, lengths=lengths)
        (output * cotangent).sum().backward()
        results[name] = [output, *final, *(p.grad.clone() for p in layer.parameters())]
    for name in ("tokens", "int32"):
        for actual, expected in zip(results[name], results["one-hot"], strict=True):
            close(actual, expected)


@pytest.mark.parametrize("norm", [n for n in LSTM_NORMS if n != "none"])
def test_hidden_state_zero_at_the_start_has_no_recurrent_variance(norm: str) -> None:
    """All rows share h_0 = 0, so the recurrent site's variance is exactly zero in the first step: finite everywhere."""
    layer = make("LSTM", 3, 5, norm=LSTM_NORMS[norm])
    hx = tuple(torch.zeros_like(s) for s in states(layer, BATCH))
    compare(layer, tensor(STEPS, BATCH, 3), hx, None)
