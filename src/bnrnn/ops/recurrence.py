"""One layer in one direction over a whole sequence: the way from its tensors to a backend."""

from __future__ import annotations

from bnrnn.ops import flops, loading, operators  # noqa: F401 - define what the kernels call, and its cost
from bnrnn.ops.cells import Cell
from bnrnn.ops.check import check_call
from bnrnn.ops.dispatch import Backend, Kernel, choose
from bnrnn.ops.kernel import CPU, TRITON
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.references import REFERENCES

__all__ = ["KERNELS", "Recurrence", "kernel", "recur"]

KERNELS: list[Kernel] = [CPU, TRITON]
"""In the order in which ``backend="auto"`` asks them."""


def kernel(cell: Cell, call: Recurrence, backend: Backend = "auto") -> Kernel | None:
    """The kernel that :func:`recur` takes for a call; None for the reference.

    Raises:
        ValueError: the named backend does not cover the call.
    """
    return choose(backend, KERNELS, cell, call)


def recur(cell: Cell, call: Recurrence, backend: Backend = "auto") -> Result:
    """Run a cell over a whole sequence: outputs, the final state of each row, and the batch statistics taken.

    Raises:
        ValueError: shapes that do not fit together; the named backend does not cover the call.
    """
    check_call(cell, call)
    chosen = choose(backend, KERNELS, cell, call)
    if chosen is None and backend == "auto" and CPU.why_not() is not None and CPU.objection(call) is None:
        loading.warn_of_absence()
    return REFERENCES[cell.name](call) if chosen is None else chosen.run(cell, call)
