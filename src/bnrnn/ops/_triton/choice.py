"""Which kernel a call takes, and how large a program's tile is: the one table of it.

Measured by compiling alone, on no GPU: a thread that holds more than 16 values of a tile (8 in the backward pass)
spills, and so do 16 warps of the batch-normalized step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ROWS = 256
"""The most rows of a batch that a program holds at once."""
TILE = 128
"""Rows of a tile, where there are more: the loop over them takes registers, too."""
UNITS = 8
WARPS = 8


@dataclass(frozen=True)
class Choice:
    """A kernel's tile.

    Attributes:
        kernel: ``"step"``, one launch a time step beside the vendor's product.
        rows, units: of a program, each a power of two.
        warps: of a program.
    """

    kernel: Literal["step"]
    rows: int
    units: int
    warps: int


def power_of_two(count: int) -> int:
    """The least that is not below ``count``."""
    return 1 << max(count - 1, 0).bit_length()


def choose(gates: int, batch: int, units: int, over_units: bool) -> Choice:
    """The kernel for a shape.

    Args:
        gates: of the cell.
        batch: rows.
        units: of the layer.
        over_units: whether a site takes statistics over the units of a row, which then have to be together.
    """
    slots = power_of_two(gates)
    if over_units:
        whole = power_of_two(units)
        rows = max(1, min(power_of_two(batch), 1024 // (slots * whole)))
        return Choice("step", rows, whole, min(16, max(4, slots * rows * whole // (32 * 8))))
    rows = power_of_two(batch) if batch <= ROWS else TILE
    values = 8 if batch <= ROWS else 4
    fitting = max(1, values * 32 * WARPS // (slots * rows))
    return Choice("step", rows, min(UNITS, fitting, power_of_two(units)), WARPS)
