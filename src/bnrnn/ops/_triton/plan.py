"""Sizes of one call: what lies in which slab, and what is kept for the backward pass. Nothing of Triton is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from bnrnn.ops import layout
from bnrnn.ops._triton import availability
from bnrnn.ops._triton.choice import Choice, choose
from bnrnn.ops.cells import Cell
from bnrnn.ops.layout import Given, KindNumber, SiteLayout

CHUNK = 4096
"""Rows of which the backward pass holds gradients of the products at once."""
ALIGNMENT = 16
"""Of slabs, in numbers: 64 bytes."""


def unsupported_sites(numbers: Sequence[int]) -> str | None:
    """Why the kernels do not take these normalizations together; None if they do."""
    input, recurrent, summed, cell = sites = layout.layouts(numbers)
    if any(site.given & Given.BETA or site.kind == KindNumber.SHIFT for site in (input, recurrent, summed)):
        return "an offset on another site than 'cell'"
    if any(site.kind == KindNumber.SEQUENCE and site.own_statistics for site in (recurrent, summed, cell)):
        return "statistics over the whole sequence on another site than 'input'"
    if any(site.is_layer for site in sites) and any(takes_of_frames(site) for site in sites):
        return "statistics over the units and over the batch in one step"
    return None


def takes_of_frames(site: SiteLayout) -> bool:
    """Whether the statistics of each step are the batch's own."""
    return site.kind == KindNumber.FRAME and site.own_statistics


@dataclass(frozen=True)
class Plan:
    """One call.

    Attributes:
        cell: its facts.
        steps, batch, inputs, units, outputs: T, B, I, H, R.
        one_hot: whether the rows of x are integers.
        product, numbers: the precision of operands and products, and of everything else.
        sites: of input, recurrent, summed and cell.
        masked, zoned_out, projected: which of these there are; ``zoned_out`` is of h.
        keep: whether a backward pass follows.
    """

    cell: Cell
    steps: int
    batch: int
    inputs: int
    units: int
    outputs: int
    one_hot: bool
    product: torch.dtype
    numbers: torch.dtype
    sites: tuple[SiteLayout, ...]
    masked: bool
    zoned_out: bool
    projected: bool
    keep: bool

    @property
    def width(self) -> int:
        return self.cell.gates * self.units

    @property
    def apart(self) -> bool:
        """Whether the two products' gradients differ: then they are not added before the kernel sees them."""
        return self.cell.has_reset or self.sites[0].normalizes or self.sites[1].normalizes

    @property
    def adds(self) -> bool:
        """Whether the recurrent product is added to the input's in memory."""
        return not self.apart and not self.one_hot

    @property
    def over_sequence(self) -> bool:
        """Whether the input's statistics are those of all steps together."""
        return self.sites[0].kind == KindNumber.SEQUENCE and self.sites[0].own_statistics

    @property
    def over_units(self) -> bool:
        return any(site.is_layer for site in self.sites)

    @property
    def takes(self) -> bool:
        """Whether a step's statistics are the batch's own."""
        return any(takes_of_frames(site) for site in self.sites)

    @property
    def operand_is_state(self) -> bool:
        return not self.masked and self.product == self.numbers

    @property
    def needs_states(self) -> bool:
        return self.cell.has_reset or self.zoned_out

    @property
    def chunk(self) -> int:
        """Steps whose input products, and whose products' gradients, are there at once: two, since a kernel that does
        the product reads the gradients of one step and writes those of the one before.
        """
        return self.steps if self.over_sequence else min(self.steps, max(2, CHUNK // self.batch))

    @property
    def product_steps(self) -> int:
        return self.steps if self.keep else self.chunk

    @property
    def state_steps(self) -> int:
        return self.steps + 1 if self.keep else 2

    def choice(self, multiprocessors: int) -> Choice:
        return choose(self.cell.gates, self.batch, self.units, self.over_units, self.projected, multiprocessors)

    def slabs(self) -> dict[str, tuple[tuple[int, int, int], torch.dtype]]:
        """Name to shape and precision, in the order in which they lie in ``saved``."""
        steps, batch = self.product_steps, self.batch
        slabs = {"products": ((steps, batch, self.width), self.product)}
        if self.cell.has_cell:
            slabs["cells"] = ((self.state_steps, batch, self.units), self.numbers)
        slabs["operand"] = ((self.state_steps, batch, self.outputs), self.product)
        if self.needs_states and not self.operand_is_state:
            slabs["states"] = ((self.state_steps, batch, self.outputs), self.numbers)
        if self.projected:
            slabs["inner"] = ((steps, batch, self.units), self.product)
        return slabs

    def sizes(self) -> list[int]:
        """Of the slabs, in numbers of ``saved``."""
        sizes = []
        for shape, dtype in self.slabs().values():
            count = -(-prod(shape) * dtype.itemsize // self.numbers.itemsize)
            sizes.append(-(-count // ALIGNMENT) * ALIGNMENT)
        return sizes

    def cut(self, saved: Tensor, fresh: bool = False) -> dict[str, Tensor]:
        """The slabs in ``saved``; in a fresh one what lies between them becomes 0, so that all of it is defined."""
        slabs = {}
        for (name, (shape, dtype)), part in zip(self.slabs().items(), saved.split(self.sizes()), strict=True):
            values = part.view(dtype)
            if fresh and len(values) > prod(shape):
                values[prod(shape) :].zero_()
            slabs[name] = values[: prod(shape)].view(shape)
        return slabs


def plan(
    cell: Cell, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor | None, numbers: Sequence[int],
    mask: Tensor | None, zoneout_h: Tensor | None, bfloat16: bool, keep: bool,
) -> Plan:  # fmt: skip
    product = torch.bfloat16 if bfloat16 else weight_hh.dtype
    return Plan(
        cell, x.shape[0], x.shape[1], weight_ih.shape[1], weight_hh.shape[0] // cell.gates, weight_hh.shape[1],
        not x.is_floating_point(), product, torch.promote_types(product, torch.float32),
        tuple(layout.layouts(numbers)), mask is not None, zoneout_h is not None, weight_hr is not None, keep,
    )  # fmt: skip


def kept(
    cell: Cell, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor | None, numbers: Sequence[int],
    mask: Tensor | None, zoneout_h: Tensor | None, bfloat16: bool,
) -> int:  # fmt: skip
    """How many numbers a forward pass keeps; 0 where the reference stands in."""
    if availability.why_not() is not None or unsupported_sites(numbers) is not None:
        return 0
    return sum(plan(cell, x, weight_ih, weight_hh, weight_hr, numbers, mask, zoneout_h, bfloat16, True).sizes())
