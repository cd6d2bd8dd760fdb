"""torch's own checks of the registered operators. Compilers cannot look through the type checks of the test run, so
test_cpu_compiled.py runs this file in a process of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.ops.cpu_cases import Case, build

from bnrnn import ops
from bnrnn.ops import layout, loading
from bnrnn.ops.cells import CELLS

OPS = {"lstm": ops.lstm, "gru": ops.gru, "rnn": ops.rnn}
BOTH = (("input", "frame"), ("recurrent", "frame"))
RECURRENT = {"lstm": (*BOTH, ("cell", "frame")), "gru": BOTH, "rnn": BOTH}
LAYER = (("input", "layer"), ("recurrent", "layer"), ("summed", "layer"))
CHOSEN = {
    "recurrent": RECURRENT,
    "layer": {"lstm": (*LAYER, ("cell", "layer")), "gru": LAYER, "rnn": LAYER},
}


def arguments(cell: str, case: Case, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    """The registered operator's own arguments."""
    call = build(case).to(dtype)
    facts = CELLS[case.nonlinearity if cell == "rnn" else cell]  # type: ignore[index]
    x, *rest = call.args
    state, weights = rest[: facts.states], rest[facts.states :]
    bias_hn = weights.pop() if facts.has_reset else None
    weight_hr = weights.pop() if case.projection else None
    masks = [call.kwargs.get(k) for k in ("batch_sizes", "recurrent_mask", "zoneout_h", "zoneout_c")]
    sites = layout.flatten(call.kwargs["sites"])
    return (facts.number, x, *[*state, None][:2], *weights, bias_hn, weight_hr, *sites, *masks, False, True)


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own from torch 2.14 on
@pytest.mark.parametrize("options", [{}, {"inputs": 40, "mask": True, "zoneout": "mask"}, {"one_hot": True}])
def test_opcheck(cell: str, norm: str, options: dict[str, Any]) -> None:
    assert loading.why_not() is None
    torch.library.opcheck(
        torch.ops.bnrnn.recurrence.default, arguments(cell, Case(cell, sites=CHOSEN[norm][cell], **options))
    )


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("options", [{"projection": 8}, {"projection": 5, "zoneout": "mask", "mask": True}])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_opcheck_of_a_projection(norm: str, options: dict[str, Any]) -> None:
    case = Case("lstm", sites=CHOSEN[norm]["lstm"], **options)
    torch.library.opcheck(torch.ops.bnrnn.recurrence.default, arguments("lstm", case))


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_compiles_without_a_graph_break(cell: str, norm: str) -> None:
    call = build(Case(cell, sites=CHOSEN[norm][cell])).to(torch.float32)

    def loss(backend: str) -> torch.Tensor:
        output, *_ = OPS[cell](*call.args, backend=backend, **call.kwargs)
        return output.square().sum()

    leaves = list(call.leaves.values())
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled("cpu"), leaves)
    expected = torch.autograd.grad(loss("cpu"), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
