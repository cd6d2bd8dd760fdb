"""One time step of a cell with known statistics, as a CPU kernel; :class:`bnrnn.nn.stream.Stream` lays it out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bnrnn.ops import loading
from bnrnn.ops.cells import CELLS, Name

State = tuple[Tensor, ...]


def unsupported(weight: Tensor) -> str | None:
    """Why the kernel cannot take a layer with this weight; None if it can."""
    if weight.device.type != "cpu":
        return f"a tensor on {weight.device}"
    if weight.dtype not in (torch.float32, torch.float64):
        return f"dtype {weight.dtype} (the kernel has float32 and float64)"
    return loading.why_not()


def lay_out(
    name: Name,
    weight_ih: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    table: Tensor,
    zoneout: tuple[float, ...],
) -> Callable[[Tensor, State, int], State]:
    """A function of the step's input, the state and the row of the table that gives the new state.

    Args:
        name: the cell's.
        weight_ih: ``(gates * H, I)``.
        weight_hh: ``(gates * H, R)``.
        weight_hr: an LSTM's projection ``(R, H)``, or None.
        table: a row for each time step: scale and shift of the input's product and of the state's, ``gates * H`` each,
            and of the cell, ``H`` each.
        zoneout: probabilities of keeping the old h and, for an LSTM, the old c.
    """
    cell = CELLS[name]
    packed_ih, packed_hh = (_packed(weight, cell.gates) for weight in (weight_ih, weight_hh))
    packed_hr = None if weight_hr is None else _packed(weight_hr, 1)
    number, keep_h, keep_c = cell.number, zoneout[0], zoneout[-1]
    op = torch.ops.bnrnn.step.default

    if cell.has_cell:

        def step(x: Tensor, state: State, row: int) -> State:
            h, c = state
            x = x if x.is_floating_point() else x.long()
            return op(number, x, h, c, packed_ih, packed_hh, packed_hr, table, row, keep_h, keep_c)

    else:

        def step(x: Tensor, state: State, row: int) -> State:
            (h,) = state
            x = x if x.is_floating_point() else x.long()
            return op(number, x, h, None, packed_ih, packed_hh, packed_hr, table, row, keep_h, 0.0)[:1]

    return step


def _packed(weight: Tensor, gates: int) -> Tensor:
    """``(gates * H, K)`` as ``(blocks, K, gates, lanes)``: a block is one vector of units, zeros beyond the last."""
    lanes = loading.vector_bytes() // weight.element_size()
    units, inputs = len(weight) // gates, weight.shape[1]
    blocks = -(-units // lanes)
    padded = weight.new_zeros(gates, blocks * lanes, inputs)
    padded[:, :units] = weight.view(gates, units, inputs)
    return padded.view(gates, blocks, lanes, inputs).permute(1, 3, 0, 2).contiguous()
