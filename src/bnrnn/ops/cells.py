"""What the recurrences have to know of a cell: the one table that checks, shapes, kernels and streams read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal["lstm", "gru", "tanh", "relu"]


@dataclass(frozen=True)
class Cell:
    """A cell's facts.

    Attributes:
        name: ``"lstm"``, ``"gru"``, or a simple recurrence's nonlinearity, ``"tanh"`` or ``"relu"``.
        number: what stands for it in an operator's arguments: the kernels' ``enum class Net``.
        gates: blocks of H rows in the weights.
        states: tensors of the state, the output first.
        groups: how many successive blocks each layer normalization takes together.
        candidate: the block of the new content; the others are gates.
        has_reset: whether a reset gate scales the candidate's recurrent part, which then has a bias of its own,
            ``bias_hn``, and is kept apart from the input's.
    """

    name: Name
    number: int
    gates: int
    states: int
    groups: tuple[int, ...]
    candidate: int
    has_reset: bool = False

    @property
    def has_cell(self) -> bool:
        """Whether there is a c_t, and a site for it."""
        return self.states == 2


CELLS: dict[Name, Cell] = {
    cell.name: cell
    for cell in (
        Cell("lstm", 0, gates=4, states=2, groups=(4,), candidate=2),
        Cell("gru", 1, gates=3, states=1, groups=(2, 1), candidate=2, has_reset=True),
        Cell("tanh", 2, gates=1, states=1, groups=(1,), candidate=0),
        Cell("relu", 3, gates=1, states=1, groups=(1,), candidate=0),
    )
}
NUMBERED: tuple[Cell, ...] = tuple(CELLS.values())
"""The cells by their number."""
