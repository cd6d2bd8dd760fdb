"""Statistics that do not fit, loaded in every way: a script, since a kernel that trusted them would end the process.

Each case must be refused, leave the tables as they are, bit for bit, and leave a layer that trains and evaluates on.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import bnrnn

CLASSES = {"LSTM": bnrnn.LSTM, "GRU": bnrnn.GRU, "RNN": bnrnn.RNN}
NAMES = ("mean", "var", "count")
State = dict[str, Any]


def trained(cell: str, width: int = 5, steps: int = 7, **options: Any) -> Any:
    torch.manual_seed(steps)
    layer = CLASSES[cell](3, width, norm="sequence-input", **options)
    layer(torch.randn(steps, 4, 3))
    return layer


def tables(layer: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in layer.named_buffers()}


def as_it_was(layer: Any, before: dict[str, Tensor]) -> None:
    after = tables(layer)
    for name, value in before.items():
        assert after[name].dtype == value.dtype, name
        assert torch.equal(after[name], value), name
    for steps in (70, 130):  # longer than every table
        output, _ = layer.train()(torch.randn(steps, 4, 3))
        output.sum().backward()
        assert output.isfinite().all()
        assert layer.eval()(torch.randn(steps + 5, 2, 3))[0].isfinite().all()
    assert layer.norm_l0["recurrent"].rows_in_use == 130


def wrong_values(value: Tensor, name: str) -> dict[str, Callable[[], Any]]:
    """What may stand in a checkpoint in the place of a right value."""
    cases: dict[str, Callable[[], Any]] = {
        "no dimension": lambda: value.flatten()[0],
        "a dimension more": lambda: value.unsqueeze(0),
        "a dimension less": lambda: value[0],
        "a row more": lambda: torch.cat((value, value[:1])),
        "a row less": lambda: value[:-1],
        "complex": lambda: value.to(torch.complex64),
        "bool": lambda: value > 0,
        "meta": lambda: value.to("meta"),
        "sparse": lambda: value.to_sparse(),
        "a list": lambda: value.tolist(),
        "a number": lambda: 3.0,
        "nothing": lambda: None,
    }
    if name == "count":
        cases |= {"float": lambda: value.float(), "half": lambda: value.half(), "negative": lambda: value - 100}
    else:
        quantized = lambda: torch.quantize_per_tensor(value, 0.1, 0, torch.quint8)  # noqa: E731
        cases |= {
            "a column more": lambda: torch.cat((value, value[:, :1]), 1),
            "a column less": lambda: value[:, :-1],
            "transposed": lambda: value.t(),
            "int64": lambda: value.long(),
            "csr": lambda: value.to_sparse_csr(),
            "quantized": quantized,
        }
    return cases


def refused(layer: Any, state: State, **options: Any) -> str:
    try:
        layer.load_state_dict(state, **options)
    except RuntimeError as error:
        return str(error)
    raise AssertionError("it was loaded")


def wrong_tensors(cell: str) -> None:
    """Each table's each tensor in each wrong form, copied or assigned."""
    good = trained(cell, steps=9).state_dict()
    keys = [key for key in good if key.endswith(NAMES)]
    assert len(keys) == (9 if cell == "LSTM" else 6)
    for assign, key in itertools.product((False, True), keys):
        name = key.rpartition(".")[2]
        for case, wrong in wrong_values(good[key], name).items():
            layer = trained(cell)
            before = tables(layer)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own: layouts in beta
                message = refused(layer, {**good, key: wrong()}, assign=assign)
            assert key.rpartition(".")[0] in message, (key, case, message)
            others = {k: v for k, v in before.items() if k.rpartition(".")[0] == key.rpartition(".")[0]}
            as_it_was(layer, others)


def missing(cell: str) -> None:
    """One or two of the three: refused, also with ``strict=False``; all three: left as they are."""
    good = trained(cell, steps=9).state_dict()
    for strict, count in itertools.product((True, False), (1, 2)):
        for gone in itertools.combinations(NAMES, count):
            layer = trained(cell)
            before = tables(layer)
            state = {k: v for k, v in good.items() if not k.endswith(gone)}
            assert "belong together" in refused(layer, state, strict=strict)
            as_it_was(layer, before)
    layer = trained(cell)
    before = tables(layer)
    layer.load_state_dict({k: v for k, v in good.items() if not k.endswith(NAMES)}, strict=False)
    as_it_was(layer, before)


def other_layers(cell: str) -> None:
    """Another width, another cell; each message names what is wrong."""
    others = [trained(cell, width=4), trained(cell, width=9, steps=100)]
    others += [trained(other) for other in CLASSES if other != cell]
    for other, strict, assign in itertools.product(others, (True, False), (False, True)):
        layer = trained(cell)
        before = tables(layer)
        assert "size mismatch" in refused(layer, other.state_dict(), strict=strict, assign=assign)
        as_it_was(layer, {k: v for k, v in before.items() if ".cell." not in k})


def other_forms(cell: str) -> None:
    """What fits in another dtype or layout is brought into the form that the kernels write into."""
    source = trained(cell, steps=9)
    good = source.state_dict()
    forms: list[Callable[[Tensor], Tensor]] = [
        lambda t: t.double() if t.is_floating_point() else t.int(),
        lambda t: t.t().contiguous().t() if t.dim() == 2 else t.repeat_interleave(2)[::2],
        lambda t: t.clone().requires_grad_() if t.is_floating_point() else t,
        lambda t: torch.nn.Parameter(t.clone(), requires_grad=False),
        lambda t: t[:9] if len(t) > 9 else t,
    ]
    for assign, form in itertools.product((False, True), forms):
        layer = trained(cell)
        layer.load_state_dict({k: form(v) if k.endswith(NAMES) else v.clone() for k, v in good.items()}, assign=assign)
        for name, value in layer.named_buffers():
            assert value.is_contiguous(), name
            assert not value.requires_grad, name
            assert value.dtype == torch.int64 or name[-5:] != "count", name
            assert torch.equal(value, source.get_buffer(name).to(value.dtype)), name
        as_it_was(layer.float(), tables(layer.float()))


if __name__ == "__main__":
    warnings.simplefilter("error")
    for function in sys.argv[2:]:
        globals()[function](sys.argv[1])
