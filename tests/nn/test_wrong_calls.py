"""Each wrong call says which argument, what came and what is allowed, before any work: nothing has changed after it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import bnrnn
from bnrnn import BatchNorm, LayerNorm, Norm, Shift
from build import CLASSES, call, make, states, tensor

pytestmark = pytest.mark.usefixtures("unchecked")

CELLS = ["LSTM", "GRU", "RNN"]
nan, inf = math.nan, math.inf


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 4), {}, ValueError, "input_size must be at least 1, got 0"),
        ((-3, 4), {}, ValueError, "input_size must be at least 1, got -3"),
        ((3, 0), {}, ValueError, "hidden_size must be at least 1, got 0"),
        ((3.0, 4), {}, TypeError, "input_size must be an int, got 3.0"),
        ((3, "4"), {}, TypeError, "hidden_size must be an int, got '4'"),
        ((3, True), {}, TypeError, "hidden_size must be an int, got True"),
        ((3, 4, 0), {}, ValueError, "num_layers must be at least 1, got 0"),
        ((3, 4, 1.5), {}, TypeError, "num_layers must be an int, got 1.5"),
        ((3, 4), {"bias": 1}, TypeError, "bias must be a bool, got 1"),
        ((3, 4), {"batch_first": "yes"}, TypeError, "batch_first must be a bool, got 'yes'"),
        ((3, 4), {"bidirectional": None}, TypeError, "bidirectional must be a bool, got None"),
        ((3, 4, 2), {"dropout": 1.5}, ValueError, "dropout must be a probability in [0, 1], got 1.5"),
        ((3, 4, 2), {"dropout": -0.1}, ValueError, "dropout must be a probability in [0, 1], got -0.1"),
        ((3, 4, 2), {"dropout": nan}, ValueError, "dropout must be a probability in [0, 1], got nan"),
        ((3, 4, 2), {"dropout": "0.5"}, TypeError, "dropout must be a number, got '0.5'"),
        ((3, 4, 2), {"dropout": True}, TypeError, "dropout must be a number, got True"),
        ((3, 4), {"recurrent_dropout": 1.0}, ValueError, "recurrent_dropout must be a probability in [0, 1), got 1.0"),
        ((3, 4), {"recurrent_dropout": nan}, ValueError, "recurrent_dropout must be a probability in [0, 1), got nan"),
        ((3, 4), {"zoneout": 1}, ValueError, "zoneout must be a probability in [0, 1), got 1"),
        ((3, 4), {"zoneout": -0.5}, ValueError, "zoneout must be a probability in [0, 1), got -0.5"),
        ((3, 4), {"zoneout": None}, TypeError, "zoneout must be a number, got None"),
        (
            (3, 4),
            {"backend": "cuda"},
            ValueError,
            "backend must be one of 'auto', 'reference', 'cpu', 'triton', 'torch', got 'cuda'",
        ),
        ((3, 4), {"dtype": torch.int64}, TypeError, "dtype must be a floating-point type, got torch.int64"),
        ((3, 4), {"dtype": torch.complex64}, TypeError, "dtype must be a floating-point type, got torch.complex64"),
        (
            (3, 4),
            {"norm": "batch"},
            ValueError,
            "norm: unknown name 'batch'; known are 'recurrent', 'input-frame', 'input-sequence', 'sequence-input', "
            "'summed', 'layer'",
        ),
        ((3, 4), {"norm": ""}, ValueError, "norm: unknown name ''; known are 'recurrent'"),
        (
            (3, 4),
            {"norm": BatchNorm()},
            TypeError,
            "norm must be None, a preset's name or a bnrnn.Norm, got BatchNorm(",
        ),
        ((3, 4), {"norm": True}, TypeError, "norm must be None, a preset's name or a bnrnn.Norm, got True"),
        ((3, 4), {"norm": nn.BatchNorm1d}, TypeError, "norm must be None, a preset's name or a bnrnn.Norm, got <class"),
    ],
)
def test_constructors(
    cell: str, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        CLASSES[cell](*arguments, **options)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: bnrnn.LSTM(3, 4, proj_size=4), ValueError, "proj_size must be smaller than hidden_size (4), got 4"),
        (lambda: bnrnn.LSTM(3, 4, proj_size=-1), ValueError, "proj_size must be at least 0, got -1"),
        (lambda: bnrnn.LSTM(3, 4, proj_size=1.0), TypeError, "proj_size must be an int, got 1.0"),
        (
            lambda: bnrnn.LSTM(3, 4, zoneout=(0.1,)),
            ValueError,
            "zoneout must be a probability or a pair (cell, hidden)",
        ),
        (lambda: bnrnn.LSTM(3, 4, zoneout=(0.1, 2)), ValueError, "zoneout must be a probability in [0, 1), got 2"),
        (lambda: bnrnn.GRU(3, 4, zoneout=(0.1, 0.1)), TypeError, "zoneout must be a number, got (0.1, 0.1)"),
        (lambda: bnrnn.RNN(3, 4, nonlinearity="gelu"), ValueError, "nonlinearity must be 'tanh' or 'relu', got 'gelu'"),
        (lambda: bnrnn.RNN(3, 4, 1, True), ValueError, "nonlinearity must be 'tanh' or 'relu', got True"),
        (lambda: bnrnn.GRU(3, 4, proj_size=2), TypeError, "proj_size"),
        (lambda: bnrnn.RNN(3, 4, proj_size=2), TypeError, "proj_size"),
        (lambda: bnrnn.GRU(3, 4, norm=Norm(cell=BatchNorm())), ValueError, "norm: the site cell belongs to an LSTM"),
        (lambda: bnrnn.RNN(3, 4, norm=Norm(cell=Shift())), ValueError, "norm: the site cell belongs to an LSTM"),
        (lambda: Norm(), ValueError, "Norm: no site is normalized; use norm=None for a plain layer"),
        (
            lambda: Norm(input="frame"),
            TypeError,
            "Norm: input must be a BatchNorm, LayerNorm, Shift or None, got 'frame'",
        ),
        (
            lambda: Norm(cell=BatchNorm),
            TypeError,
            "Norm: cell must be a BatchNorm, LayerNorm, Shift or None, got <class",
        ),
        (
            lambda: Norm(recurrent=BatchNorm("sequence")),
            ValueError,
            "Norm: recurrent cannot have statistics='sequence'",
        ),
        (lambda: Norm(summed=BatchNorm("sequence")), ValueError, "Norm: summed cannot have statistics='sequence'"),
        (lambda: Norm(cell=BatchNorm("sequence")), ValueError, "Norm: cell cannot have statistics='sequence'"),
        (lambda: Norm(input=Shift()), ValueError, "Norm: input cannot be a Shift"),
        (
            lambda: Norm(summed=BatchNorm(), input=BatchNorm()),
            ValueError,
            "Norm: summed normalizes the sum of input and",
        ),
        (lambda: Norm(summed=BatchNorm(), recurrent=LayerNorm()), ValueError, "Norm: summed normalizes the sum"),
        (lambda: BatchNorm("batch"), ValueError, "BatchNorm: statistics must be 'frame' or 'sequence', got 'batch'"),
        (lambda: BatchNorm(gamma=nan), ValueError, "BatchNorm: gamma must be a finite number, got nan"),
        (lambda: BatchNorm(gamma=inf), ValueError, "BatchNorm: gamma must be a finite number, got inf"),
        (lambda: BatchNorm(gamma="1"), TypeError, "BatchNorm: gamma must be a number, got '1'"),
        (lambda: BatchNorm(gamma=True), TypeError, "BatchNorm: gamma must be a number, got True"),
        (lambda: BatchNorm(eps=-1e-5), ValueError, "BatchNorm: eps must be a finite number above 0, got -1e-05"),
        (lambda: BatchNorm(eps=0), ValueError, "BatchNorm: eps must be a finite number above 0, got 0"),
        (lambda: BatchNorm(eps=nan), ValueError, "BatchNorm: eps must be a finite number above 0, got nan"),
        (lambda: BatchNorm(momentum=0.0), ValueError, "BatchNorm: momentum must be a finite number above 0, got 0.0"),
        (lambda: BatchNorm(momentum=1.5), ValueError, "BatchNorm: momentum must be in (0, 1] or None, got 1.5"),
        (lambda: BatchNorm(max_steps=0), ValueError, "BatchNorm: max_steps must be at least 1, got 0"),
        (lambda: BatchNorm(max_steps=2.0), TypeError, "BatchNorm: max_steps must be an int, got 2.0"),
        (lambda: BatchNorm("sequence", max_steps=5), ValueError, "BatchNorm: max_steps belongs to statistics='frame'"),
        (lambda: BatchNorm(min_rows=1), ValueError, "BatchNorm: min_rows must be at least 2, got 1"),
        (lambda: BatchNorm(min_rows="3"), TypeError, "BatchNorm: min_rows must be an int, got '3'"),
        (lambda: LayerNorm(gamma=-inf), ValueError, "LayerNorm: gamma must be a finite number, got -inf"),
        (lambda: LayerNorm(eps=-1), ValueError, "LayerNorm: eps must be a finite number above 0, got -1"),
        (lambda: LayerNorm(eps=None), TypeError, "LayerNorm: eps must be a number, got None"),
        (lambda: bnrnn.norms.recurrent(gamma=nan), ValueError, "gamma must be a finite number, got nan"),
        (lambda: bnrnn.norms.input("batch"), ValueError, "statistics must be 'frame' or 'sequence', got 'batch'"),
    ],
)
def test_specifications(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        build()


X = tensor(5, 4, 3)
H, C = tensor(2, 4, 6), tensor(2, 4, 6)
PACKED = pack_padded_sequence(X, torch.tensor([5, 3, 2, 1]))

CALLS: list[tuple[str, Callable[[Any], Any], type[Exception], str]] = [
    # the input
    ("not a tensor", lambda m: m([[1.0]]), TypeError, "input must be a Tensor or PackedSequence, got list"),
    ("none", lambda m: m(None), TypeError, "input must be a Tensor or PackedSequence, got NoneType"),
    ("features", lambda m: m(X[..., :2]), ValueError, "input must have shape (T, B, 3) or (T, 3), got (5, 4, 2)"),
    ("one dimension", lambda m: m(X[0, 0]), ValueError, "input must have shape (T, B, 3) or (T, 3), got (3,)"),
    (
        "four dimensions",
        lambda m: m(X[None]),
        ValueError,
        "input must have shape (T, B, 3) or (T, 3), got (1, 5, 4, 3)",
    ),
    ("no dimension", lambda m: m(X[0, 0, 0]), ValueError, "input must have shape (T, B, 3) or (T, 3), got ()"),
    (
        "no steps",
        lambda m: m(X[:0]),
        ValueError,
        "input: at least one time step and one sequence are needed, got (0, 4, 3)",
    ),
    (
        "dtype",
        lambda m: m(X.float()),
        ValueError,
        "input has dtype torch.float32, the layer's parameters torch.float64",
    ),
    ("half", lambda m: m(X.half()), ValueError, "input has dtype torch.float16, the layer's parameters torch.float64"),
    (
        "bool",
        lambda m: m(X > 0),
        TypeError,
        "input must be torch.float64, or int64 or int32 that stand for one-hot rows",
    ),
    ("uint8", lambda m: m(X.to(torch.uint8)), TypeError, "got torch.uint8"),
    ("complex", lambda m: m(X.to(torch.complex128)), TypeError, "got torch.complex128"),
    ("device", lambda m: m(X.to("meta")), ValueError, "input is on meta, the layer's parameters on cpu"),
    (
        "integers of 3 dimensions",
        lambda m: m(X.long()),
        ValueError,
        "input of integers must have shape (T, B) or (T,), got (5, 4, 3)",
    ),
    (
        "token too large",
        lambda m: m(torch.full((5, 4), 3)),
        ValueError,
        "input: integers must be in [0, 3), got 3 to 3",
    ),
    (
        "negative token",
        lambda m: m(torch.tensor([[0, 1, 2, -1]])),
        ValueError,
        "input: integers must be in [0, 3), got -1 to 2",
    ),
    (
        "packed features",
        lambda m: m(pack_padded_sequence(X[..., :2], torch.tensor([5, 3, 2, 1]))),
        ValueError,
        "input must have",
    ),
    ("packed dtype", lambda m: m(PACKED.to(torch.float32)), ValueError, "input has dtype torch.float32"),
    # lengths
    (
        "lengths beside packed",
        lambda m: m(PACKED, lengths=[5, 3, 2, 1]),
        ValueError,
        "lengths: a PackedSequence has its own",
    ),
    (
        "lengths beside unbatched",
        lambda m: m(X[:, 0], lengths=[5]),
        ValueError,
        "lengths: an unbatched input has one length",
    ),
    (
        "length zero",
        lambda m: m(X, lengths=[5, 0, 3, 2]),
        ValueError,
        "lengths must be from 1 to 5, the input's steps; got 0 to 5",
    ),
    (
        "negative length",
        lambda m: m(X, lengths=[5, -1, 3, 2]),
        ValueError,
        "lengths must be from 1 to 5, the input's steps; got -1 to 5",
    ),
    (
        "length beyond",
        lambda m: m(X, lengths=[6, 2, 3, 2]),
        ValueError,
        "lengths must be from 1 to 5, the input's steps; got 2 to 6",
    ),
    (
        "too few lengths",
        lambda m: m(X, lengths=[5, 4, 3]),
        ValueError,
        "lengths must have shape (4,), one for each sequence; got (3,)",
    ),
    (
        "lengths of two dimensions",
        lambda m: m(X, lengths=torch.ones(4, 1).long()),
        ValueError,
        "lengths must have shape (4,)",
    ),
    (
        "float lengths",
        lambda m: m(X, lengths=torch.tensor([5.0, 4, 3, 2])),
        TypeError,
        "lengths must be integers, got torch.float32",
    ),
    (
        "list of floats",
        lambda m: m(X, lengths=[5.0, 4, 3, 2]),
        TypeError,
        "lengths must be integers, got torch.float32",
    ),
    (
        "bool lengths",
        lambda m: m(X, lengths=torch.ones(4, dtype=torch.bool)),
        TypeError,
        "lengths must be integers, got torch.bool",
    ),
    (
        "complex lengths",
        lambda m: m(X, lengths=torch.ones(4) * 1j),
        TypeError,
        "lengths must be integers, got torch.complex64",
    ),
    ("an int", lambda m: m(X, lengths=5), TypeError, "lengths must be a tensor or a sequence of ints, got int"),
    ("a string", lambda m: m(X, lengths="5"), TypeError, "lengths must be a tensor or a sequence of ints, got str"),
    ("empty lengths", lambda m: m(X, lengths=[]), (TypeError, ValueError), "lengths must"),
    (
        "nested lengths",
        lambda m: m(X, lengths=[[1, 2], [3]]),
        TypeError,
        "lengths must be a tensor or a sequence of ints, got [",
    ),
    (
        "list of strings",
        lambda m: m(X, lengths=["5", "4", "3", "2"]),
        TypeError,
        "lengths must be a tensor or a sequence of ints, got [",
    ),
    # start_step
    ("float start", lambda m: m(X, start_step=1.0), TypeError, "start_step must be an int, got 1.0"),
    ("bool start", lambda m: m(X, start_step=True), TypeError, "start_step must be an int, got True"),
    ("tensor start", lambda m: m(X, start_step=torch.tensor(1)), TypeError, "start_step must be an int, got tensor(1)"),
    ("negative start", lambda m: m(X, start_step=-1), ValueError, "start_step must not be negative, got -1"),
]

STATES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("batch of hx", lambda h: h[:, :3], "hx: h_0 must have shape (2, 4, 6), got (2, 3, 6)"),
    ("layers of hx", lambda h: h[:1], "hx: h_0 must have shape (2, 4, 6), got (1, 4, 6)"),
    ("size of hx", lambda h: h[..., :5], "hx: h_0 must have shape (2, 4, 6), got (2, 4, 5)"),
    ("unbatched hx", lambda h: h[:, 0], "hx: h_0 must have shape (2, 4, 6), got (2, 6)"),
    ("dtype of hx", lambda h: h.float(), "hx: h_0 has dtype torch.float32, the layer's parameters torch.float64"),
    ("device of hx", lambda h: h.to("meta"), "hx: h_0 is on meta, the layer's parameters on cpu"),
]


def refuses(cell: str, options: dict[str, Any], wrong: Callable[[Any], Any], error: Any, message: str) -> None:
    """In training and in eval; afterwards the layer is as it was, and still works."""
    layer = make(cell, 3, 6, 2, statistics=3, **options)
    for training in (True, False):
        layer.train(training)
        before = {name: value.clone() for name, value in layer.state_dict().items()}
        with pytest.raises(error, match=re.escape(message)):
            wrong(layer)
        after = layer.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert all(p.grad is None for p in layer.parameters())
    assert call(layer, X)[0].isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent", "sequence-input"])
@pytest.mark.parametrize(("wrong", "error", "message"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_calls(cell: str, norm: str | None, wrong: Callable[[Any], Any], error: Any, message: str) -> None:
    refuses(cell, {"norm": norm}, wrong, error, message)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["recurrent", "sequence-input", "layer"])
def test_no_rows(cell: str, norm: str) -> None:
    message = "input: at least one time step and one sequence are needed, got (5, 0, 3)"
    refuses(cell, {"norm": norm}, lambda m: m(X[:, :0]), ValueError, message)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent"])
@pytest.mark.parametrize(("change", "message"), [s[1:] for s in STATES], ids=[s[0] for s in STATES])
def test_states(cell: str, norm: str | None, change: Callable[[Any], Any], message: str) -> None:
    def hx(h: Any, c: Any = C) -> Any:
        return (h, c) if cell == "LSTM" else h

    refuses(cell, {"norm": norm}, lambda m: m(X, hx(change(H))), ValueError, message)
    if cell == "LSTM":
        refuses(cell, {"norm": norm}, lambda m: m(X, (H, change(C))), ValueError, message.replace("h_0", "c_0"))
        if "shape" in message:
            packed = message.replace("(2, 4, 6), got (2, 6)", "(2, 4, 6), got (2, 6)")
            refuses(cell, {"norm": norm}, lambda m: m(PACKED, hx(change(H))), ValueError, packed)


@pytest.mark.parametrize(
    ("cell", "hx", "error", "message"),
    [
        ("LSTM", H, TypeError, "hx must be a pair (h_0, c_0) or None, got Tensor"),
        ("LSTM", (H,), TypeError, "hx must be a pair (h_0, c_0) or None, got tuple"),
        ("LSTM", (H, None), TypeError, "hx: c_0 must be a Tensor, got NoneType"),
        ("LSTM", (0, C), TypeError, "hx: h_0 must be a Tensor, got int"),
        ("GRU", (H, C), TypeError, "hx: h_0 must be a Tensor, got tuple"),
        ("RNN", [H], TypeError, "hx: h_0 must be a Tensor, got list"),
        ("GRU", 1.0, TypeError, "hx: h_0 must be a Tensor, got float"),
    ],
)
def test_kinds_of_states(cell: str, hx: Any, error: type[Exception], message: str) -> None:
    refuses(cell, {"norm": "recurrent"}, lambda m: m(X, hx), error, message)


@pytest.mark.parametrize("cell", CELLS)
def test_state_of_the_projection(cell: str) -> None:
    if cell == "LSTM":
        layer = make(cell, 3, 6, 2, norm="layer", proj_size=2)
        with pytest.raises(ValueError, match=re.escape("hx: h_0 must have shape (2, 4, 2), got (2, 4, 6)")):
            layer(X, (H, C))
    layer = make(cell, 3, 6, 2, norm="layer")
    with pytest.raises(ValueError, match=re.escape("hx: h_0 must have shape (2, 6), got (2, 4, 6)")):
        call(layer, X[:, 0], (H, C))


@pytest.mark.parametrize("cell", CELLS)
def test_shapes_are_told_as_the_user_sees_them(cell: str) -> None:
    layer = make(cell, 3, 6, norm="layer", batch_first=True)
    with pytest.raises(ValueError, match=re.escape("input must have shape (B, T, 3) or (T, 3), got (4, 5, 2)")):
        layer(tensor(4, 5, 2))
    with pytest.raises(ValueError, match=re.escape("input of integers must have shape (B, T) or (T,), got (4, 5, 2)")):
        layer(tensor(4, 5, 2).long())
    with pytest.raises(ValueError, match=re.escape("lengths must be from 1 to 5")):
        layer(tensor(4, 5, 3), lengths=[6, 1, 1, 1])


@pytest.mark.parametrize("cell", CELLS)
def test_start_step_of_a_bidirectional_layer(cell: str) -> None:
    refuses(
        cell,
        {"norm": "recurrent", "bidirectional": True},
        lambda m: m(X, start_step=2),
        ValueError,
        "start_step must be 0 for a bidirectional layer",
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("norm", "shape", "options", "rows"),
    [
        ("recurrent", (5, 1, 3), {}, 1),
        ("input-frame", (5, 1, 3), {}, 1),
        ("summed", (1, 1, 3), {}, 1),
        ("sequence-input", (5, 1, 3), {}, 1),
        ("input-sequence", (1, 1, 3), {}, 1),
        ("input-sequence", (5, 1, 3), {"lengths": [1]}, 1),
        ("recurrent", (5, 3), {}, 1),
        (Norm(summed=BatchNorm(min_rows=5)), (5, 4, 3), {}, 4),
    ],
)
def test_too_few_rows_for_batch_statistics(
    cell: str, norm: Any, shape: tuple[int, ...], options: dict[str, Any], rows: int
) -> None:
    """nn.BatchNorm's error: no variance of one value. Nothing is remembered; eval() takes the same input."""
    least = 5 if isinstance(norm, Norm) else 2
    message = f"input: expected more than {least - 1} rows to take batch statistics of, got {rows}"
    layer = make(cell, 3, 6, 2, norm=norm, statistics=3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = tensor(*shape)
    with pytest.raises(ValueError, match=re.escape(message)):
        call(layer, x, **options)
    with pytest.raises(ValueError, match=re.escape(message)), bnrnn.batch_statistics(layer.eval()):
        call(layer, x, **options)
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())
    assert call(layer, x, **options)[0].isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_one_row_is_enough_where_no_batch_statistics_are_taken(cell: str) -> None:
    for norm in (None, "layer"):
        assert call(make(cell, 3, 6, norm=norm), tensor(5, 1, 3))[0].shape == (5, 1, 6)
    layer = make(cell, 3, 6, norm="input-sequence")
    assert call(layer, tensor(5, 1, 3))[0].shape == (5, 1, 6)  # five frames
    assert call(layer, tensor(5, 3))[0].shape == (5, 6)


def test_a_call_with_unknown_arguments() -> None:
    with pytest.raises(TypeError, match="mask"):
        make("LSTM", 3, 6)(X, mask=None)
    with pytest.raises(TypeError, match="momentum"):
        bnrnn.LSTM(3, 6, momentum=0.1)
    with pytest.raises(TypeError):
        bnrnn.LSTM(3, 6, 1, True, False, 0.0, False, 0, "recurrent")  # norm is by keyword only


@pytest.mark.parametrize("cell", CELLS)
def test_a_backend_that_cannot_take_the_call(cell: str) -> None:
    """``backend="cpu"`` says why instead of quietly taking another."""
    layer = make(cell, 3, 6, norm="recurrent", backend="cpu", dtype=torch.float16)
    with pytest.raises(ValueError, match=r"backend='cpu' cannot take this call: .*; use backend='auto' or"):
        call(layer, X.half(), tuple(s.half() for s in states(layer, 4)))
