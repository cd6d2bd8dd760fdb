"""One time step of a cell with known statistics in PyTorch, for streams that the CPU kernel does not take.

A layer called with a sequence of one step gives the same numbers at four to eight times the cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrnn.nn.sequences import State
from bnrnn.ops.cells import Name

Row = tuple[Tensor | None, ...]
"""Scale and shift of the input's product, of the state's and of the cell, None where there is none."""


def lay_out(
    cell: Name,
    weight_ih: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    columns: list[Tensor | None],
    zoneout: tuple[float, ...],
) -> Callable[[Tensor, State, int], State]:
    """A function of the step's input, the state and the row of the table that gives the new state."""
    step = CELLS[cell]
    lookup = weight_ih.t().contiguous()
    steps = max((len(c) for c in columns if c is not None), default=1)
    lists = [[None] * steps if c is None else [*c.unbind(0), *[c[-1]] * (steps - len(c))] for c in columns]
    rows: list[Row] = list(zip(*lists, strict=True))

    def run(x: Tensor, state: State, row: int) -> State:
        scale_x, shift_x, scale_h, shift_h, *of_cell = rows[row]
        b = _at(F.linear(x, weight_ih) if x.is_floating_point() else F.embedding(x, lookup), scale_x, shift_x)
        new = step(_at(F.linear(state[0], weight_hh), scale_h, shift_h), b, state, *of_cell)
        if weight_hr is not None:
            new = F.linear(new[0], weight_hr), *new[1:]
        return tuple(n if not p else torch.lerp(n, o, p) for p, o, n in zip(zoneout, state, new, strict=True))

    return run


def _lstm(a: Tensor, b: Tensor, state: State, scale_c: Tensor | None, shift_c: Tensor | None) -> State:
    i, f, g, o = (a + b).chunk(4, 1)
    c = torch.addcmul(i.sigmoid_().mul_(g.tanh_()), f.sigmoid_(), state[1])
    return _at(c, scale_c, shift_c).tanh().mul_(o.sigmoid_()), c


def _gru(a: Tensor, b: Tensor, state: State, *_: Tensor | None) -> State:
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, 1), b.chunk(3, 1)
    n = torch.addcmul(b_n, (a_r + b_r).sigmoid_(), a_n).tanh_()
    return (torch.lerp(n, state[0], (a_z + b_z).sigmoid_()),)


CELLS: dict[Name, Callable[..., State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "tanh": lambda a, b, *_: ((a + b).tanh_(),),
    "relu": lambda a, b, *_: ((a + b).relu_(),),
}


def _at(value: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """``scale * value + shift``, each where it is."""
    if scale is None:
        return value if shift is None else value + shift
    return value * scale if shift is None else torch.addcmul(shift, value, scale)
