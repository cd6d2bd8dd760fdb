"""The record of a call and the cell's name give what the public functions give."""

from __future__ import annotations

import pytest
import torch
from tests.ops.cpu_cases import Case, build

from bnrnn import ops
from bnrnn.ops.cells import CELLS, NUMBERED
from bnrnn.ops.recurrence import Recurrence, recur


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", CELLS)
def test_recur_is_the_public_function(name: str, backend: str) -> None:
    cell = CELLS[name]  # type: ignore[index]
    function = name if name in ("lstm", "gru") else "rnn"
    case = Case(function, sites=(("recurrent", "frame"),), lengths=True, mask=True, zoneout="mask", nonlinearity=name)
    call = build(case)
    x, *rest = call.args
    state, weights = rest[: cell.states], rest[cell.states :]
    zoneout = tuple(call.kwargs[n] for n in ("zoneout_h", "zoneout_c")[: cell.states])
    record = Recurrence(
        x, tuple(state), *weights, zoneout=zoneout,  # type: ignore[arg-type]
        **{n: call.kwargs[n] for n in ("sites", "batch_sizes", "recurrent_mask")},
    )  # fmt: skip
    output, final, statistics = recur(cell, record, backend)  # type: ignore[arg-type]
    expected, *states, taken = getattr(ops, function)(*call.args, **call.kwargs, backend=backend)
    assert torch.equal(output, expected)
    assert len(final) == cell.states
    assert all(torch.equal(a, b) for a, b in zip(final, states, strict=True))
    assert statistics.keys() == taken.keys() == {"recurrent"}


def test_the_table_of_cells() -> None:
    assert [cell.number for cell in NUMBERED] == [0, 1, 2, 3]
    for cell in NUMBERED:
        assert sum(cell.groups) == cell.gates
        assert cell.candidate < cell.gates
    assert [cell.name for cell in NUMBERED if cell.has_cell] == ["lstm"]
