"""The choice between a cell's kernels and its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

from bnrnn.ops.cells import Cell
from bnrnn.ops.record import Recurrence, Result

Backend = Literal["auto", "reference", "cpu", "triton", "torch"]
"""``"auto"`` is the first kernel that covers a call, else the reference; ``"torch"`` is a layer's."""
BACKENDS: tuple[str, ...] = get_args(Backend)


@runtime_checkable
class Kernel(Protocol):
    """A compiled implementation of the recurrences."""

    @property
    def name(self) -> str:
        """The backend it answers to."""
        ...

    def unsupported(self, cell: Cell, call: Recurrence) -> str | None:
        """Why the kernel cannot take this call; None if it can."""
        ...

    def run(self, cell: Cell, call: Recurrence) -> Result:
        """The call itself, with the reference's results. Only where :meth:`unsupported` has no objection."""
        ...


def choose(backend: Backend, kernels: Sequence[Kernel], cell: Cell, call: Recurrence) -> Kernel | None:
    """The kernel that a call takes, of those in the order of preference; None for the reference.

    Raises:
        ValueError: a kernel was asked for by name and does not cover the call.
    """
    if backend == "auto":
        for kernel in kernels:
            if kernel.unsupported(cell, call) is None:
                return kernel
        return None
    if backend == "reference":
        return None
    reason = "it is not built here" if backend in BACKENDS else f"allowed are {', '.join(map(repr, BACKENDS))}"
    if backend == "torch":
        reason = "torch's own recurrences are whole layers, so only a layer hands a call to them"
    for kernel in kernels:
        if kernel.name == backend:
            reason = kernel.unsupported(cell, call)
            if reason is None:
                return kernel
    raise ValueError(
        f"backend={backend!r} cannot take this call: {reason}; use backend='auto' or backend='reference' instead"
    )
