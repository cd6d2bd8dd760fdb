"""With ``norm=None`` a layer is torch.nn's: constructor, parameters, numbers; and torch.nn's weights move over."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import bnrnn
from bnrnn.nn.norm.table import Table
from bnrnn.ops import loading
from bnrnn.ops.cells import Cell
from bnrnn.ops.recurrence import Recurrence, recur
from build import CLASSES, call, close, make, states, tables, tensor

TORCH = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
KINDS = [
    ("LSTM", {}),
    ("LSTM", {"proj_size": 2}),
    ("GRU", {}),
    ("RNN", {"nonlinearity": "tanh"}),
    ("RNN", {"nonlinearity": "relu"}),
]
LENGTHS = [3, 6, 1, 4]


def pair(cell: str, *args: Any, backend: str = "torch", **options: Any) -> tuple[Any, Any]:
    """torch.nn's layer and ours with its weights."""
    torch.manual_seed(1)
    theirs = TORCH[cell](*args, **options)
    ours = CLASSES[cell](*args, backend=backend, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def gradients(layer: nn.Module, results: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    loss = sum((r * tensor(*r.shape, seed=k, dtype=r.dtype)).sum() for k, r in enumerate(results))
    return list(torch.autograd.grad(loss, [*layer.parameters(), *inputs], retain_graph=True))


def flat(output: Any, final: Any) -> list[Tensor]:
    return [output.data if isinstance(output, PackedSequence) else output, *final]


def same(theirs: nn.Module, ours: nn.Module, x: Any, hx: Any, seed: int = 3, tolerance: float = 0) -> None:
    """The same outputs, states and gradients, from the same random state: bit for bit, or within a tolerance."""
    leaves = [t.requires_grad_() for t in (*([x] if isinstance(x, Tensor) else []), *(hx or ()))]
    results = []
    for layer in (theirs, ours):
        torch.manual_seed(seed)
        value = flat(*call_torch(layer, x, hx))
        results.append((value, gradients(layer, value, leaves)))
    for expected, actual in zip(itertools.chain(*results[0]), itertools.chain(*results[1]), strict=True):
        close(actual, expected, tolerance)


def call_torch(layer: Any, x: Any, hx: Any) -> tuple[Any, tuple[Tensor, ...]]:
    is_lstm = isinstance(layer, (nn.LSTM, bnrnn.LSTM))
    output, final = layer(x, None if hx is None else tuple(hx) if is_lstm else hx[0])
    return output, final if is_lstm else (final,)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch.nn.LSTM's own
@pytest.mark.parametrize(("cell", "extra"), KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_option_gives_torch_numbers(
    cell: str,
    extra: dict[str, Any],
    bias: bool,
    batch_first: bool,
    bidirectional: bool,
    layers: int,
    dtype: torch.dtype,
) -> None:
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional, "dtype": dtype, **extra}
    theirs, ours = pair(cell, 3, 5, layers, **options)
    shape = (4, 6, 3) if batch_first else (6, 4, 3)
    same(theirs, ours, tensor(*shape, dtype=dtype), None)
    hx = tuple(s.to(dtype) for s in states(ours, 4))
    same(theirs, ours, tensor(*shape, dtype=dtype), hx)
    same(theirs.eval(), ours.eval(), tensor(*shape, dtype=dtype), hx)
    unbatched = tuple(s[:, 0].clone().detach() for s in hx)
    same(theirs, ours, tensor(6, 3, dtype=dtype), unbatched)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


@pytest.mark.parametrize(("cell", "extra"), KINDS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_packed_in_any_order(cell: str, extra: dict[str, Any], bidirectional: bool) -> None:
    theirs, ours = pair(cell, 3, 5, 2, bidirectional=bidirectional, dtype=torch.float64, **extra)
    x = tensor(6, 4, 3)
    hx = states(ours, 4)
    for lengths, enforce_sorted in (([6, 4, 3, 1], True), (LENGTHS, False)):
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=enforce_sorted)
        same(theirs, ours, packed, None)
        same(theirs, ours, packed, hx)
        for layer in (theirs, ours):
            out, _ = call_torch(layer, packed, hx)
            assert isinstance(out, PackedSequence)
            assert torch.equal(out.batch_sizes, packed.batch_sizes)
            assert (out.sorted_indices is None) == enforce_sorted


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch.nn.LSTM's own
@pytest.mark.parametrize(("cell", "extra"), KINDS)
@pytest.mark.parametrize("options", [{}, {"bias": False, "batch_first": True, "dropout": 0.5}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fastest_gives_torch_numbers(
    cell: str, extra: dict[str, Any], options: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``backend="auto"``: padded, packed, unbatched, in training and evaluation, within rounding."""
    monkeypatch.setattr("bnrnn.nn.plain.FEW_STEPS", 0)
    theirs, ours = pair(cell, 3, 9, 2, backend="auto", bidirectional=True, dtype=dtype, **options, **extra)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    x = tensor(6, 4, 3, dtype=dtype)
    hx = tuple(s.to(dtype) for s in states(ours, 4))
    given = x.transpose(0, 1).contiguous() if ours.batch_first else x
    same(theirs, ours, given, None, tolerance=tolerance)
    same(theirs, ours, given, hx, tolerance=tolerance)
    same(theirs.eval(), ours.eval(), given, hx, tolerance=tolerance)
    same(theirs, ours, x[:, 0].clone().detach(), tuple(s[:, 0].clone().detach() for s in hx), tolerance=tolerance)
    for lengths, enforce_sorted in (([6, 4, 3, 1], True), (LENGTHS, False), ([6, 6, 6, 6], True)):
        packed = pack_padded_sequence(x.detach(), torch.tensor(lengths), enforce_sorted=enforce_sorted)
        same(theirs.eval(), ours.eval(), packed, None, tolerance=tolerance)  # torch drops packed rows in another order
        same(theirs.eval(), ours.eval(), packed, hx, tolerance=tolerance)


@pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")
@pytest.mark.parametrize(("cell", "extra"), [kind for kind in KINDS if "proj_size" not in kind[1]])
def test_the_fastest_are_the_kernels(cell: str, extra: dict[str, Any]) -> None:
    layers = [
        pair(cell, 3, 9, dtype=torch.float64, backend=backend, **extra)[1] for backend in ("auto", "cpu", "torch")
    ]
    x = tensor(50, 40, 3)
    packed = pack_padded_sequence(x, torch.tensor([50 - k for k in range(40)]))
    for given in (x, packed):
        auto, kernel, torchs = (flat(*call_torch(layer, given, None))[0] for layer in layers)
        close(auto, kernel, 0)
        assert not torch.equal(auto, torchs)
    auto, _, torchs = (call(layer, x[:3])[0] for layer in layers)  # in few steps torch's own are
    close(auto, torchs, 0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_integers_and_lengths_on_torchs_own(cell: str) -> None:
    theirs, ours = pair(cell, 5, 4, dtype=torch.float64)
    tokens = torch.randint(5, (6, 4), generator=torch.Generator().manual_seed(0))
    x = nn.functional.one_hot(tokens, 5).double()
    close(call(ours, tokens)[0], call_torch(theirs, x, None)[0], 0)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    expected, final = call_torch(theirs, packed, None)
    padded = tokens.clone()
    padded[5, 0] = -7
    for given in (x, tokens, padded):
        output, end = call(ours, given, lengths=LENGTHS)
        close(output, nn.utils.rnn.pad_packed_sequence(expected)[0], 0)
        for a, e in zip(end, final, strict=True):
            close(a, e, 0)
    output, _ = call(ours, pack_padded_sequence(tokens, torch.tensor(LENGTHS), enforce_sorted=False))
    close(output.data, expected.data, 0)


@pytest.mark.parametrize(("cell", "extra"), KINDS)
@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
@pytest.mark.parametrize("zoneout", [0.0, 0.1])
def test_a_batch_of_none(cell: str, extra: dict[str, Any], backend: str, zoneout: float) -> None:
    """Outputs ``(T, 0, H)``, zero gradients."""
    if zoneout and backend == "torch":
        zoneout = 0.0
    theirs = TORCH[cell](3, 5, 2, bidirectional=True, **extra)
    ours = CLASSES[cell](3, 5, 2, bidirectional=True, backend=backend, zoneout=zoneout, **extra)
    output, final = call(ours, torch.zeros(4, 0, 3))
    expected, end = call_torch(theirs, torch.zeros(4, 0, 3), None)
    assert output.shape == expected.shape
    assert [s.shape for s in final] == [s.shape for s in end]
    output.sum().backward()
    assert ours.weight_hh_l0.grad is None or not ours.weight_hh_l0.grad.any()
    assert call(ours, torch.zeros(4, 0, dtype=torch.int64), lengths=[])[0].shape == expected.shape


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_dropout_from_the_same_random_state(cell: str) -> None:
    theirs, ours = pair(cell, 3, 5, 3, dropout=0.5)
    x = tensor(6, 4, 3, dtype=torch.float32)
    same(theirs, ours, x, None)
    dropped = call(ours, x)[0]
    assert not torch.equal(dropped, call(ours.eval(), x)[0])


@pytest.mark.parametrize(("cell", "extra"), KINDS)
def test_the_reference_recurrence_gives_torch_numbers(cell: str, extra: dict[str, Any]) -> None:
    """``backend="reference"`` and ``lengths`` leave torch's kernels; the numbers stay."""
    theirs, ours = pair(cell, 3, 5, 2, bidirectional=True, dtype=torch.float64, **extra)
    reference = CLASSES[cell].from_torch(theirs, backend="reference")
    x, hx = tensor(6, 4, 3).requires_grad_(), states(ours, 4)
    expected = flat(*call_torch(theirs, x, hx))
    actual = flat(*call_torch(reference, x, hx))
    for a, e in zip(actual, expected, strict=True):
        close(a, e)
    for a, e in zip(gradients(reference, actual, [x]), gradients(theirs, expected, [x]), strict=True):
        close(a, e)

    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    expected, final = call_torch(theirs, packed, hx)
    expected = nn.utils.rnn.pad_packed_sequence(expected)[0]
    for layer in (ours, reference):
        actual, end = call(layer, x, hx, lengths=LENGTHS)
        close(actual, expected)
        for a, e in zip(end, final, strict=True):
            close(a, e)
        for a, e in zip(gradients(layer, [actual, *end], [x]), gradients(theirs, [expected, *final], [x]), strict=True):
            close(a, e)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_state_dict_goes_both_ways(cell: str) -> None:
    theirs, ours = pair(cell, 3, 5, 2, bidirectional=True)
    other = CLASSES[cell](3, 5, 2, bidirectional=True, backend="torch")
    back = TORCH[cell](3, 5, 2, bidirectional=True)
    back.load_state_dict(other.state_dict())
    x = tensor(6, 4, 3, dtype=torch.float32)
    assert torch.equal(call_torch(back, x, None)[0], call_torch(other, x, None)[0])
    assert not torch.equal(call_torch(back, x, None)[0], call_torch(theirs, x, None)[0])
    assert torch.equal(call_torch(theirs, x, None)[0], call_torch(ours, x, None)[0])


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_the_same_seed_draws_the_same_weights(cell: str) -> None:
    layers = []
    for module in (TORCH[cell], CLASSES[cell]):
        torch.manual_seed(9)
        layers.append(module(3, 5, 2, bidirectional=True))
    for theirs, ours in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.equal(theirs, ours)


def test_positional_arguments_mean_what_they_mean_in_torch() -> None:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    for cell, arguments in (
        ("LSTM", (3, 5, 2, False, True, 0.25, True, 2)),
        ("GRU", (3, 5, 2, False, True, 0.25, True)),
        ("RNN", (3, 5, 2, "relu", False, True, 0.25, True)),
    ):
        theirs, ours = TORCH[cell](*arguments), CLASSES[cell](*arguments)
        for name in (*names, *(["proj_size"] if cell == "LSTM" else []), *(["nonlinearity"] if cell == "RNN" else [])):
            assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(("cell", "extra"), KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_from_torch_without_a_norm(cell: str, extra: dict[str, Any], bias: bool) -> None:
    torch.manual_seed(0)
    options = {
        "bias": bias,
        "batch_first": True,
        "bidirectional": True,
        "dropout": 0.5,
        "dtype": torch.float64,
        **extra,
    }
    theirs = TORCH[cell](3, 5, 2, **options).eval()
    ours = CLASSES[cell].from_torch(theirs, backend="torch")
    assert not ours.training
    assert ours.dropout == 0.5
    same(theirs, ours, tensor(4, 6, 3), states(ours, 4))
    with torch.no_grad():
        theirs.weight_ih_l0.zero_()
    assert ours.weight_ih_l0.abs().min() > 0, "the weights are a copy"


@pytest.mark.parametrize(("cell", "extra"), KINDS)
@pytest.mark.parametrize("norm", ["recurrent", "layer", "input-sequence"])
def test_from_torch_with_a_norm(cell: str, extra: dict[str, Any], norm: str) -> None:
    """Weights move over; a normalized LSTM or RNN has one bias, the sum; a GRU needs both."""
    torch.manual_seed(0)
    theirs = TORCH[cell](3, 5, 2, bidirectional=True, dtype=torch.float64, **extra)
    ours = CLASSES[cell].from_torch(theirs, norm=norm)
    assert ours.training
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if name.startswith("norm"):
            continue
        both = cell != "GRU" and name.startswith("bias_ih")
        close(value, state[name] + state[name.replace("bias_ih", "bias_hh")] if both else state[name], 0)
    assert ("bias_hh_l0" in ours.state_dict()) == (cell == "GRU")


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_a_norm_that_undoes_itself_gives_torch_numbers(cell: str) -> None:
    """Population mean 0, variance 1 - eps and gain 1 make every site the identity: the torch layer's own results."""
    torch.manual_seed(0)
    theirs = TORCH[cell](3, 5, 2, bidirectional=True, dtype=torch.float64)
    ours = CLASSES[cell].from_torch(theirs, norm="recurrent").eval()
    for module in ours.modules():
        if hasattr(module, "count"):
            mean = torch.zeros(1, module.size, dtype=torch.float64)
            module.restore(Table(mean, mean + (1 - 1e-5), torch.ones(1, dtype=torch.int64)))
            nn.init.ones_(module.gamma)
    x, hx = tensor(6, 4, 3), states(ours, 4)
    for actual, expected in zip(flat(*call_torch(ours, x, hx)), flat(*call_torch(theirs, x, hx)), strict=True):
        close(actual, expected)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_from_torch_wants_the_same_cell(cell: str) -> None:
    for other in (nn.Linear(2, 2), nn.GRU(2, 2) if cell == "LSTM" else nn.LSTM(2, 2), CLASSES[cell](2, 2)):
        with pytest.raises(TypeError, match=f"module must be a torch.nn.{cell}, got {type(other).__name__}"):
            CLASSES[cell].from_torch(other)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", [None, "recurrent", "layer"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_unbatched_is_a_batch_of_one(cell: str, norm: str | None, batch_first: bool) -> None:
    layer = make(cell, 3, 5, 2, norm=norm, bidirectional=True, statistics=4, batch_first=batch_first).eval()
    hx = states(layer, 1)
    x = tensor(6, 3)
    expected, end = call(layer, x.unsqueeze(0 if batch_first else 1), hx)
    actual, final = call(layer, x, tuple(s[:, 0] for s in hx))
    assert actual.shape == (6, 10)
    close(actual, expected.squeeze(0 if batch_first else 1), 1e-14)
    for a, e in zip(final, end, strict=True):
        close(a, e[:, 0], 1e-14)
    tokens = torch.tensor([0, 2, 1, 1])
    close(call(layer, tokens)[0], call(layer, nn.functional.one_hot(tokens, 3).double())[0], 1e-14)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["recurrent", "input-sequence", "layer"])
def test_batch_first_is_the_transposed_call(cell: str, norm: str) -> None:
    options = {"norm": norm, "bidirectional": True}
    first, second = make(cell, 3, 5, 2, batch_first=True, **options), make(cell, 3, 5, 2, **options)
    x, hx = tensor(6, 4, 3), states(first, 4)
    actual, final = call(first, x.transpose(0, 1), hx, lengths=LENGTHS)
    expected, end = call(second, x, hx, lengths=LENGTHS)
    close(actual, expected.transpose(0, 1), 0)
    for a, e in zip(final, end, strict=True):
        close(a, e, 0)
    for name, own in tables(second).items():
        for key, value in own.items():
            close(tables(first)[name][key], value, 0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["recurrent", "sequence-input", "summed", "layer"])
@pytest.mark.parametrize("training", [True, False])
def test_packed_equals_lengths(cell: str, norm: str, training: bool) -> None:
    x, lengths = tensor(6, 4, 3), torch.tensor(LENGTHS)
    sequences = [x[:n, k] for k, n in enumerate(LENGTHS)]
    order = torch.argsort(lengths, descending=True)
    for packed, at in (
        (pack_padded_sequence(x, lengths, enforce_sorted=False), torch.arange(4)),
        (pack_sequence(sequences, enforce_sorted=False), torch.arange(4)),
        (pack_sequence([sequences[k] for k in order]), order),
    ):
        layers = [make(cell, 3, 5, 2, norm=norm, bidirectional=True, statistics=3).train(training) for _ in range(2)]
        hx = states(layers[0], 4)
        expected, end = call(layers[0], x[:, at], tuple(s[:, at] for s in hx), lengths=lengths[at])
        output, final = call(layers[1], packed, tuple(s[:, at] for s in hx))
        assert output.batch_sizes.tolist() == packed.batch_sizes.tolist()
        padded, own = nn.utils.rnn.pad_packed_sequence(output)
        assert own.tolist() == lengths[at].tolist()
        close(padded, expected, 1e-13)
        for a, e in zip(final, end, strict=True):
            close(a, e, 1e-13)
        for name, value in tables(layers[0]).items():
            for key in value:
                close(tables(layers[1])[name][key], value[key], 1e-13)


def test_packed_integers() -> None:
    layer = make("LSTM", 5, 4, norm="recurrent")
    tokens = torch.randint(5, (6, 4), generator=torch.Generator().manual_seed(0))
    packed = pack_padded_sequence(tokens, torch.tensor(LENGTHS), enforce_sorted=False)
    output, final = call(layer, packed)
    expected, end = call(layer, nn.functional.one_hot(tokens, 5).double(), lengths=LENGTHS)
    close(nn.utils.rnn.pad_packed_sequence(output)[0], expected)
    for a, e in zip(final, end, strict=True):
        close(a, e)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", [None, "recurrent"])
def test_dropout_acts_on_the_outputs_of_all_layers_but_the_last(
    cell: str, norm: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(cell, 3, 50, 2, norm=norm, dropout=0.4, backend="reference" if norm is None else "auto")
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(which: Cell, call: Recurrence, backend: Any) -> Any:
        result = recur(which, call, backend)
        seen.append((call.x, result[0]))
        return result

    monkeypatch.setattr("bnrnn.nn.recurrent.recur", spy)
    output, _ = call(layer, tensor(6, 40, 3))
    (_, below), (above, last) = seen
    factor = (above / below).detach()
    dropped = above == 0
    close(factor[~dropped], torch.full_like(factor[~dropped], 1 / 0.6), 1e-12)
    assert 0.37 < dropped.double().mean() < 0.43
    close(output, last, 0)
    seen.clear()
    with bnrnn.batch_statistics(layer.eval()):
        call(layer, tensor(6, 40, 3))
    close(seen[1][0], seen[0][1], 0)


def test_dropout_of_a_single_layer_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match=r"dropout=0.5 acts between layers, and num_layers=1 has none"):
        bnrnn.LSTM(2, 3, dropout=0.5)


def test_flatten_parameters_is_there_and_does_nothing() -> None:
    layer = make("LSTM", 2, 3, norm="recurrent")
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    assert layer.flatten_parameters() is None
    for name, value in layer.state_dict().items():
        close(value, before[name], 0)


def test_all_weights_in_torch_order() -> None:
    theirs, ours = pair("LSTM", 3, 5, 2, bidirectional=True, proj_size=2)
    for a, b in zip(theirs.all_weights, ours.all_weights, strict=True):
        for e, actual in zip(a, b, strict=True):
            assert torch.equal(e, actual)
