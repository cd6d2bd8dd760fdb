"""What a call would launch, compiled for a GPU that is not there."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


@dataclass(frozen=True)
class Compiled:
    """A kernel as the assembler made it.

    Attributes:
        name: the function's.
        registers, spilled: of a thread; bytes that it writes to memory for want of registers.
        shared: bytes of a program.
        warps: of a program.
        cooperative: whether all programs are to run at once.
        ptx: the assembler's text.
    """

    name: str
    registers: int
    spilled: int
    shared: int
    warps: int
    cooperative: bool
    ptx: str


class _Device:
    """Stands where Triton asks which GPU it compiles for."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return int(self.target.arch)  # what is compiled is kept for each device

    def get_current_stream(self, device: int) -> int:
        return 0


def _number(pattern: str, log: str) -> int:
    found = re.search(pattern, log)
    assert found is not None, log
    return int(found[1])


@contextmanager
def offline(capability: int) -> Iterator[list[Compiled]]:
    """In the block a launch compiles its kernel for its true arguments, and runs nothing. They may be on the CPU.

    What has been compiled before in this process, or is in Triton's cache, is not reported again.
    """
    found: list[Compiled] = []
    launch = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        log = io.StringIO()
        with contextlib.redirect_stdout(log):
            kernel = launch(self, *args, grid=grid, warmup=True, **options)
        if text := log.getvalue():
            found.append(
                Compiled(
                    self.__name__,
                    _number(r"Used (\d+) registers", text),
                    _number(r"(\d+) bytes spill stores", text),
                    kernel.metadata.shared,
                    kernel.metadata.num_warps,
                    kernel.metadata.launch_cooperative_grid,
                    kernel.asm["ptx"],
                )
            )
        return kernel

    with knobs.nvidia.scope():
        knobs.nvidia.dump_ptxas_log = True
        driver.set_active(_Device(capability))  # type: ignore[arg-type]
        JITFunction.run = run  # type: ignore[method-assign]
        try:
            yield found
        finally:
            JITFunction.run = launch  # type: ignore[method-assign]
            driver._active = None
