"""The kernel tests on emulated aarch64: a pytest plugin in whose runs a cross-compiled baseline answers the operators.

    pip install ziglang unicorn
    python -m pytest -p tests.ops.aarch64 tests/ops/test_cpu_kernels.py -k 'not refused and not says_why'

Zig brings clang and a C library for aarch64; unicorn is QEMU's emulator as a library. recurrence.cpp, which hands
tensors over to the kernels, is not emulated: Python does its work here, without its checks. One worker does all, so
nothing is shown about threads.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import unicorn
from torch import Tensor
from unicorn import arm64_const as arm64

from bnrnn.ops import layout, loading
from bnrnn.ops.cells import NUMBERED
from bnrnn.ops.operators import LIBRARY

KERNELS = loading.OBJECT.parent / "csrc"
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-nostartfiles", "-static"]
CODE_SIZE, MEMORY, MEMORY_SIZE, STACK_SIZE = 1 << 24, 1 << 28, 1 << 28, 1 << 20


class Machine:
    """One aarch64 processor with the kernels' code and memory for one call at a time."""

    def __init__(self, executable: bytes) -> None:
        self.cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.cpu.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # vector instructions are allowed
        self.entry, headers = struct.unpack_from("<QQ", executable, 24)
        size, count = struct.unpack_from("<HH", executable, 54)
        self.cpu.mem_map(self.entry & -CODE_SIZE, CODE_SIZE)
        self.cpu.mem_map(MEMORY, MEMORY_SIZE)
        for i in range(count):
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", executable, headers + i * size)
            if kind == 1:
                self.cpu.mem_write(address, executable[offset : offset + length])

    def call(
        self, in_double: bool, numbers: Sequence[int], eps: Sequence[float], tensors: Sequence[Tensor | None]
    ) -> int:
        """Run ``bnrnn_call``; what it wrote stands in the tensors."""
        free = MEMORY + STACK_SIZE

        def place(data: bytes) -> int:
            nonlocal free
            address = free
            self.cpu.mem_write(address, data)
            free += (len(data) + 127) // 64 * 64
            return address

        addresses = [0 if t is None else place(t.numpy().tobytes()) for t in tensors]
        arguments = [
            int(in_double),
            place(struct.pack(f"<{len(numbers)}q", *numbers)),
            place(struct.pack(f"<{len(eps)}d", *eps)),
            place(struct.pack(f"<{len(addresses)}Q", *addresses)),
        ]
        for i, value in enumerate(arguments):
            self.cpu.reg_write(arm64.UC_ARM64_REG_X0 + i, value)
        end = self.entry & -CODE_SIZE
        self.cpu.reg_write(arm64.UC_ARM64_REG_SP, MEMORY + STACK_SIZE)
        self.cpu.reg_write(arm64.UC_ARM64_REG_LR, end)
        self.cpu.emu_start(self.entry, end)
        for address, t in zip(addresses, tensors, strict=True):
            if t is not None and t.numel():
                data = self.cpu.mem_read(address, t.numel() * t.element_size())
                t.numpy()[...] = np.frombuffer(data, t.numpy().dtype).reshape(t.shape)  # not an in-place operation
        return self.cpu.reg_read(arm64.UC_ARM64_REG_X0)


@cache
def machine() -> Machine:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels"
        sources = [str(Path(__file__).with_suffix(".cpp")), str(KERNELS / "isa_baseline.cpp")]
        compiler = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-musl", "-Wl,-e,bnrnn_call"]
        subprocess.run([*compiler, *FLAGS, f"-I{KERNELS}", *sources, "-o", str(target)], check=True)
        return Machine(target.read_bytes())


class Call:
    """The operands of an operator as ``bnrnn_call`` takes them."""

    def __init__(
        self, number: int, x: Tensor, h0: Tensor | None, c0: Tensor | None, weight_ih: Tensor, weight_hh: Tensor,
        bias: Tensor | None, bias_hn: Tensor | None, weight_hr: Tensor | None, site_tensors: Sequence[Tensor],
        site_layout: Sequence[int], eps: Sequence[float], batch_sizes: Tensor | None, mask: Tensor | None,
        zoneout_h: Tensor | None, zoneout_c: Tensor | None, bfloat16: bool, flag: bool,
    ) -> None:  # fmt: skip
        self.cell, self.layout, self.eps, self.flag = NUMBERED[number], site_layout, eps, flag
        self.new = weight_hh.new_empty
        self.steps, self.batch, self.inputs, self.outputs = *x.shape[:2], weight_ih.shape[1], weight_hh.shape[1]
        self.units = weight_hh.shape[0] // self.cell.gates
        self.is_projected = weight_hr is not None
        self.net = number
        self.numbers = [self.steps, self.batch, self.inputs, self.units, self.outputs, int(bfloat16)]
        self.numbers += [int(z is not None and z.dim() > 0) for z in (zoneout_h, zoneout_c)]
        is_index = not x.is_floating_point()
        operands = [None if is_index else x, x if is_index else None, batch_sizes, h0, c0, weight_ih, weight_hh]
        operands += [weight_hr, bias, bias_hn, mask, zoneout_h, zoneout_c]
        self.operands = [None if t is None else t.detach().contiguous() for t in operands]
        self.site_tensors = [t.detach().contiguous() for t in site_tensors]

    def run(
        self, operation: int, statistics: Tensor, results: dict[str, Tensor | None], grad_sites: Tensor | None = None
    ) -> int:
        numbers, tensors = [*self.numbers], [*self.operands]
        given = iter(self.site_tensors)
        sizes = layout.sizes(self.cell, self.units)
        grads = [] if grad_sites is None else list(grad_sites.split([*sizes, self.units]))
        start = 0
        for i, (site, n) in enumerate(zip(layout.layouts(self.layout), sizes, strict=True)):
            numbers += [site.kind, int(site.own_statistics), site.min_rows]
            which = site.given
            parts = [next(given) if which & bit else None for bit in (1, 2, 4)]
            parts.append(next(given) if which & 4 else None)
            if site.own_statistics:
                size = n * (1 if site.kind == layout.KindNumber.SEQUENCE else self.steps)
                parts[2:] = statistics[start : start + size], statistics[start + size : start + 2 * size]
                start += 2 * size
            tensors += [*parts, grads[i] if grads else None, grads[4] if grads and i == 3 else None]
        names = ["output", "h_n", "c_n", "saved", "grad_output", "grad_h_n", "grad_c_n", "grad_x", "grad_h0", "grad_c0"]
        names += ["grad_ih", "grad_hh", "grad_hr", "grad_bias", "grad_bias_hn", "scratch"]
        tensors += [results.get(name) for name in names]
        in_double = self.new(0).dtype == torch.float64
        return machine().call(in_double, [operation, self.net, *numbers], self.eps, tensors)

    def forward(self) -> tuple[Tensor, ...]:
        """Output, h_n, c_n, statistics and what the backward pass needs."""
        statistics = self.new(layout.statistics_size(self.layout, self.cell, self.steps, self.units))
        results: dict[str, Tensor | None] = {
            "output": self.new(self.steps, self.batch, self.outputs),
            "h_n": self.new(self.batch, self.outputs),
            "c_n": self.new(self.batch if self.cell.has_cell else 0, self.units),
        }
        saved = self.new(self.run(0, statistics, results) if self.flag else 0)
        results["saved"] = saved if self.flag else None
        results["scratch"] = torch.empty(self.run(1, statistics, results), dtype=torch.uint8)
        self.run(3, statistics, results)
        return (*[t for t in list(results.values())[:3] if t is not None], statistics, saved)

    def backward(self, statistics: Tensor, saved: Tensor, gradients: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        gates, width = self.cell.gates, self.cell.gates * self.units
        out: dict[str, Tensor] = {
            "grad_x": self.new(self.steps if self.flag else 0, self.batch, self.inputs),
            "grad_h0": self.new(self.batch, self.outputs),
            "grad_c0": self.new(self.batch if self.cell.has_cell else 0, self.units),
            "grad_ih": self.new(width, self.inputs),
            "grad_hh": self.new(width, self.outputs),
        }
        bias = self.new(width + self.cell.has_reset * self.units)
        sites = self.new((3 * gates + 2) * self.units)
        projection = self.new(self.outputs, self.units) if self.is_projected else self.new(0)
        results: dict[str, Tensor | None] = {**out, "saved": saved}
        results["grad_hr"] = projection if self.is_projected else None
        results["grad_x"] = out["grad_x"] if self.flag else None
        results["grad_bias"] = bias[:width]
        results["grad_bias_hn"] = bias[width:] if self.cell.has_reset else None
        given = [None if t is None else t.contiguous() for t in gradients]
        results |= zip(("grad_output", "grad_h_n", "grad_c_n"), given, strict=True)
        results["scratch"] = torch.empty(self.run(2, statistics, results, sites), dtype=torch.uint8)
        self.run(4, statistics, results, sites)
        return (*out.values(), bias, projection, sites)


def forward(*arguments: Any) -> tuple[Tensor, ...]:
    return Call(*arguments).forward()


def backward(*arguments: Any) -> tuple[Tensor, ...]:
    gradients, (statistics, saved, number, x, _, _, *rest) = arguments[:3], arguments[3:]
    return Call(number, x, None, None, *rest).backward(statistics, saved, gradients)


def step(
    net: int, x: Tensor, h: Tensor, c: Tensor | None, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor | None,
    table: Tensor, row: int, zoneout_h: float, zoneout_c: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    is_index = not x.is_floating_point()
    units = h.shape[1] if c is None else c.shape[1]
    new_h, new_c = torch.empty_like(h), h.new_empty(h.shape[0] if net == 0 else 0, units)
    tensors = [None if is_index else x, x if is_index else None, h, c, weight_ih, weight_hh, weight_hr, table[row]]
    tensors += [None if weight_hr is None else h.new_empty(h.shape[0], units), new_h, new_c]
    numbers = [5, net, h.shape[0], weight_ih.shape[1], units, h.shape[1]]
    machine().call(h.dtype == torch.float64, numbers, [zoneout_h, zoneout_c], tensors)
    return new_h, new_c


def no_average(*_: Any) -> None:
    raise RuntimeError("averages are averages.cpp's work, which is not emulated")


def use_instruction_set(name: str) -> None:
    if name != "baseline":
        raise RuntimeError(f"instruction set {name} is not available; available are baseline")


def answer(name: str, schema: str, value: Any) -> None:
    LIBRARY.define(f"{name}{schema}")
    LIBRARY.impl(name, value, "CompositeExplicitAutograd")


@cache
def load() -> None:
    """In place of the shared object."""
    LIBRARY.impl("recurrence", forward, "CPU")
    LIBRARY.impl("recurrence_backward", backward, "CPU")
    LIBRARY.impl("step", step, "CPU")
    LIBRARY.impl("average_", no_average, "CPU")
    answer("vector_bytes", "() -> int", lambda: 16)
    answer("instruction_set", "() -> str", lambda: "baseline")
    answer("instruction_sets", "() -> str", lambda: "baseline")
    answer("use_instruction_set", "(str name) -> ()", use_instruction_set)
    answer("poison_memory", "(bool on) -> ()", lambda on: None)


loading._load = load  # type: ignore[assignment]
loading.OBJECT = Path(__file__)
