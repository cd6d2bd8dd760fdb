"""Compiles what the table of kernels and tiles can choose, for GPUs that are not there, and says what each takes.

test_offline.py runs it in a process of its own, since the same kernels may be interpreted in others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from tests.ops.compiled_kernels import arguments
from tests.ops.cpu_cases import Case
from tests.ops.every_kernel import CHOSEN
from tests.ops.triton.offline import Compiled, offline
from torch.utils._python_dispatch import TorchDispatchMode

from bnrnn.ops._triton import choice, recurrence

CAPABILITIES = (80, 90)
SHARED = 163 * 1024
"""Bytes that a program may have on an A100, the least of those."""
TRITON = "3.7."
"""The version whose spills are bounded."""
SPILLED = {"step": 0, "dot": 0, "scan": 192}
"""Bytes of a thread. Places of what it reads and writes stay with a scan, more than its registers hold."""
RECURRENT = CHOSEN["recurrent"]


@dataclass(frozen=True)
class Variant:
    """A call of one time step and more, whose two passes are compiled."""

    kernel: choice.Kernel
    case: Case
    dtype: torch.dtype = torch.float32
    tf32: bool = True

    def __str__(self) -> str:
        dtype = "tf32" if self.tf32 and self.dtype == torch.float32 else str(self.dtype).removeprefix("torch.")
        return f"{self.kernel} {self.case.cell} {self.case.name} {dtype}"


def variants(capability: int) -> Iterator[Variant]:
    """The LSTM's tiles from 32 rows on, smaller ones being parts of these, and the others' at their ends; the options
    at one tile each.
    """
    cells = {cell: Case(cell, 2, 64, 3, 100, sites=RECURRENT[cell]) for cell in RECURRENT}
    for case in cells.values():
        for rows in (32, 64, 128, 256, 300) if case.cell == "lstm" else (64, 256):
            yield Variant("step", replace(case, batch=rows))
        yield Variant("dot", case)
        yield Variant("scan", case)
    lstm = cells["lstm"]
    for kernel in ("dot", "scan"):
        yield Variant(kernel, replace(lstm, units=240))
        yield Variant(kernel, lstm, torch.bfloat16)
        yield Variant(kernel, lstm, tf32=False)
    for rows in (24, 128):  # a product alone takes less than the loop over steps
        yield Variant("scan", replace(lstm, batch=rows, units=250))
    if capability != CAPABILITIES[-1]:
        return
    for kernel in ("step", "dot", "scan"):
        yield Variant(kernel, replace(lstm, lengths=True, mask=True, zoneout="mask"))
    yield Variant("step", replace(lstm, one_hot=True, population=True))
    for cell, sites in CHOSEN["layer"].items():
        yield Variant("step", Case(cell, 2, 64, 3, 100, sites=sites))
    yield Variant("step", replace(lstm, projection=20, zoneout="expectation"))
    yield Variant("step", replace(lstm, sites=(("input", "sequence"), ("summed", "frame"), ("cell", "frame"))))
    yield Variant("step", replace(lstm, sites=()))
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        yield Variant("step", lstm, dtype)


class NothingReadBack(TorchDispatchMode):
    """Refuses what would have the processor wait for the device, and a captured graph fail."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select"), (
            func
        )
        return func(*args, **(kwargs or {}))


def compile_passes(variant: Variant, capability: int) -> list[Compiled]:
    """The kernels of both passes that this process has not compiled before."""
    torch.backends.cuda.matmul.fp32_precision = "tf32" if variant.tf32 else "ieee"
    own = torch.promote_types(variant.dtype, torch.float32)
    given = list(arguments(variant.case.cell, variant.case, own))
    for operand in (1, 4, 5, 8):
        if given[operand] is not None and given[operand].is_floating_point():
            given[operand] = given[operand].to(variant.dtype)
    with torch.no_grad(), offline(capability) as found, choice.using(variant.kernel), NothingReadBack():
        output, h_n, c_n, statistics, saved = recurrence.forward(*given)
        grads = output, h_n, c_n if c_n.numel() else None
        recurrence.backward(*grads, statistics, saved, *given[:-1], True)
    return found


def faults(variant: Variant, kernel: Compiled) -> Iterator[str]:
    """What must not be. How registers are given out is a version's of Triton own."""
    if triton.__version__.startswith(TRITON) and kernel.spilled > SPILLED[variant.kernel]:
        yield f"a thread spills {kernel.spilled} bytes"
    if kernel.shared > SHARED:
        yield f"a program takes {kernel.shared} bytes of shared memory"
    if ".global.nc" in kernel.ptx:
        yield "a load may give what was there before another program wrote"
    if variant.kernel == "scan" and not (
        kernel.cooperative and "release.add" in kernel.ptx and "acquire" in kernel.ptx
    ):
        yield "the programs do not meet"


def main() -> int:
    bad = 0
    for capability in CAPABILITIES:
        for variant in variants(capability):
            for kernel in compile_passes(variant, capability):
                wrong = list(faults(variant, kernel))
                bad += bool(wrong)
                print(f"sm_{capability} {variant}: {kernel.name}, {kernel.registers} registers, {kernel.spilled} bytes "
                      f"spilled, {kernel.shared} shared, {kernel.warps} warps", *wrong, flush=True)  # fmt: skip
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
