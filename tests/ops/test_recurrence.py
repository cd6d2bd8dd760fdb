"""The record of a call and the cell's name give what the public functions give."""

from __future__ import annotations

import pytest
import torch
from tests.ops.cpu_cases import Case, build

from bnrnn import ops
from bnrnn.ops import loading, step
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


@pytest.mark.parametrize("outputs", [7, 19])
@pytest.mark.parametrize("zoneout", [(0.0, 0.0), (0.2, 0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")
def test_a_streamed_step_of_a_projection(outputs: int, zoneout: tuple[float, float], dtype: torch.dtype) -> None:
    """Scales of 1 and the bias as a shift: the numbers of the reference over the whole sequence."""
    case = Case("lstm", projection=outputs, units=21)
    x, h, c, weight_ih, weight_hh, bias, weight_hr = (t.detach().to(dtype) for t in build(case).args)  # type: ignore[union-attr]
    keep = tuple(torch.tensor(p, dtype=dtype) for p in zoneout)
    call = Recurrence(x, (h, c), weight_ih, weight_hh, bias, None, weight_hr, zoneout=keep)
    expected, final, _ = recur(CELLS["lstm"], call, "reference")
    one, zero = torch.ones_like(bias), torch.zeros_like(bias)
    table = torch.cat((one, bias, one, zero, one[:21], zero[:21])).unsqueeze(0)
    assert step.unsupported(weight_ih) is None
    advance = step.lay_out("lstm", weight_ih, weight_hh, weight_hr, table, zoneout)
    state: tuple[torch.Tensor, ...] = (h, c)
    for t in range(len(x)):
        state = advance(x[t], state, 0)
        torch.testing.assert_close(state[0], expected[t])
    torch.testing.assert_close(state, final)
