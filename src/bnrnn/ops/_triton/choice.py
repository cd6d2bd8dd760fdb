"""Which kernel a call takes, and how large a program's tile is: the one table of it.

Measured by compiling alone, on no GPU: a thread that holds more than 16 values of a tile (8 in the backward pass)
spills; so do 16 warps of the batch-normalized step; and so does a scan that holds more than :data:`HELD` and
:data:`OPERAND` say.

By arithmetic, and not measured: at 100 units two launches cost more than a step's work, so that only a scan can be as
fast as cuDNN. A product inside of the kernel has every program read the whole state, and saves a launch; up to some
400 units that is a gain, and far above it the vendor's product is the faster one. Until a GPU has shown it, a call
takes ``"step"``, the one kernel that cannot hang, and the others only where :func:`using` asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

Kernel = Literal["step", "dot", "scan"]
ROWS = 256
"""The most rows of a batch that a program holds at once."""
TILE = 128
"""Rows of a tile, where there are more: the loop over them takes registers, too."""
UNITS = 8
WARPS = 8
HELD = 256
"""The longest rows of a weight that a scan's programs hold."""
OPERAND = 64
"""The most values of the other operand in a thread, on their way to the shared memory, where the weight is held."""

_asked: Kernel | None = None


@contextmanager
def using(kernel: Kernel) -> Iterator[None]:
    """Have the calls of all threads take one kernel, for tests and measurements.

    Raises:
        ValueError: there is no such kernel; at a call, that it does not cover it.
    """
    global _asked
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel must be one of {', '.join(map(repr, get_args(Kernel)))}, got {kernel!r}")
    before, _asked = _asked, kernel
    try:
        yield
    finally:
        _asked = before


@dataclass(frozen=True)
class Choice:
    """A kernel's tile.

    Attributes:
        kernel: ``"step"``, one launch a time step beside the vendor's product; ``"dot"``, one launch a time step that
            does the product as well; ``"scan"``, one launch for many time steps, between which its programs meet.
        rows, units: of a program, each a power of two.
        warps: of a program.
    """

    kernel: Kernel
    rows: int
    units: int
    warps: int


@dataclass(frozen=True)
class Depth:
    """How a kernel goes along the terms of its product.

    Attributes:
        block: terms at once, a power of two.
        held: whether these are all, and the weight's stay with the program from step to step.
        stages: how many blocks are on their way at once; more than one only within a step.
    """

    block: int
    held: bool
    stages: int


def power_of_two(count: int) -> int:
    """The least that is not below ``count``."""
    return 1 << max(count - 1, 0).bit_length()


def tile(gates: int, batch: int, units: int, over_units: bool = False) -> Choice:
    """Of the fused step."""
    slots = power_of_two(gates)
    if over_units:
        whole = power_of_two(units)
        rows = max(1, min(power_of_two(batch), 1024 // (slots * whole)))
        return Choice("step", rows, whole, min(16, max(4, slots * rows * whole // (32 * 8))))
    rows = power_of_two(batch) if batch <= ROWS else TILE
    values = 8 if batch <= ROWS else 4
    fitting = max(1, values * 32 * WARPS // (slots * rows))
    return Choice("step", rows, min(UNITS, fitting, power_of_two(units)), WARPS)


def choose(gates: int, batch: int, units: int, over_units: bool, projected: bool, multiprocessors: int) -> Choice:
    """The kernel for a shape.

    Args:
        gates: of the cell.
        batch: rows.
        units: of the layer.
        over_units: whether a site takes statistics over the units of a row, which then have to be together.
        projected: whether a projection follows each step.
        multiprocessors: of the device; all programs of a scan run at once, one on each.

    Raises:
        ValueError: the kernel that was asked for does not cover the call.
    """
    chosen = tile(gates, batch, units, over_units)
    if _asked in (None, "step"):
        return chosen
    if over_units or projected or batch > ROWS:
        raise ValueError(f"kernel {_asked!r} takes no layer normalization, no projection, and at most {ROWS} rows")
    programs = -(-units // chosen.units)
    if _asked == "scan" and programs > multiprocessors:
        raise ValueError(f"kernel 'scan' has {programs} programs for {units} units, {multiprocessors} run at once here")
    return Choice(_asked, max(16, chosen.rows), chosen.units, chosen.warps)


def depth(choice: Choice, terms: int, itemsize: int) -> Depth:
    """Of a product of so many terms, of numbers of so many bytes."""
    whole = max(16, power_of_two(terms))
    fits = whole <= HELD and whole * choice.rows <= OPERAND * 32 * choice.warps
    if choice.kernel == "scan" and fits:
        return Depth(whole, True, 1)
    return Depth(min(whole, 128 // itemsize), False, 3)
