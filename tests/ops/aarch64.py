"""The kernel tests on emulated aarch64: a pytest plugin in whose runs a cross-compiled baseline answers the operators.

    pip install ziglang unicorn
    python -m pytest -p tests.ops.aarch64 tests/ops/test_cpu_kernels.py -k 'not refused and not says_why'

Zig brings clang and a C library for aarch64; unicorn is QEMU's emulator as a library. library.cpp, which hands tensors
over to the kernels, is not emulated: Python does its work here, without its checks. One worker does all, so nothing is
shown about threads.
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

from bnrnn.ops import _library

KERNELS = _library.OBJECT.parent / "csrc"
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-nostartfiles", "-static"]
CODE_SIZE, MEMORY, MEMORY_SIZE, STACK_SIZE = 1 << 24, 1 << 28, 1 << 28, 1 << 20
NETS = {"lstm": (0, 4), "gru": (1, 3), "rnn": (2, 1)}


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

    def __init__(self, cell: str, x: Tensor, states: Sequence[Tensor | None], arguments: Sequence[Any]) -> None:
        weight_ih, weight_hh, bias, *rest = arguments
        bias_hn = rest.pop(0) if cell == "gru" else None
        relu = rest.pop(0) if cell == "rnn" else False
        site_tensors, self.layout, self.eps, batch_sizes, mask, zoneout_h, *rest = rest
        zoneout_c = rest.pop(0) if cell == "lstm" else None
        bfloat16, self.flag = rest
        net, self.gates = NETS[cell]
        self.new = weight_hh.new_empty
        self.steps, self.batch, self.inputs, self.units = *x.shape[:2], weight_ih.shape[1], weight_hh.shape[1]
        self.net = net + int(relu)
        self.numbers = [self.steps, self.batch, self.inputs, self.units, int(bfloat16)]
        self.numbers += [int(z is not None and z.dim() > 0) for z in (zoneout_h, zoneout_c)]
        is_index = not x.is_floating_point()
        operands = [None if is_index else x, x if is_index else None, batch_sizes, *states, weight_ih, weight_hh]
        operands += [bias, bias_hn, mask, zoneout_h, zoneout_c]
        self.operands = [None if t is None else t.detach().contiguous() for t in operands]
        self.site_tensors = [t.detach().contiguous() for t in site_tensors]

    def run(
        self, operation: int, statistics: Tensor, results: dict[str, Tensor | None], grad_sites: Tensor | None = None
    ) -> int:
        numbers, tensors = [*self.numbers], [*self.operands]
        given = iter(self.site_tensors)
        own = _library.statistics_shapes(self.layout, self.gates, self.steps, self.units)
        sizes = _library.site_sizes(self.gates, self.units)
        grads = [] if grad_sites is None else list(grad_sites.split([*sizes, self.units]))
        start = 0
        for i, shape in enumerate(own):
            kind, which, min_rows, _ = self.layout[4 * i : 4 * i + 4]
            numbers += [kind, int(shape is not None), min_rows]
            parts = [next(given) if which & bit else None for bit in (1, 2, 4)]
            parts.append(next(given) if which & 4 else None)
            if shape is not None:
                size = shape[0] * shape[1]
                parts[2:] = statistics[start : start + size], statistics[start + size : start + 2 * size]
                start += 2 * size
            tensors += [*parts, grads[i] if grads else None, grads[4] if grads and i == 3 else None]
        names = ["output", "h_n", "c_n", "saved", "grad_output", "grad_h_n", "grad_c_n", "grad_x", "grad_h0", "grad_c0"]
        names += ["grad_ih", "grad_hh", "grad_bias", "grad_bias_hn", "scratch"]
        tensors += [results.get(name) for name in names]
        in_double = self.new(0).dtype == torch.float64
        return machine().call(in_double, [operation, self.net, *numbers], self.eps, tensors)

    def forward(self) -> tuple[Tensor, ...]:
        """Output, h_n, c_n, statistics and what the backward pass needs."""
        has_cell = self.gates == 4
        statistics = self.new(_library.statistics_size(self.layout, self.gates, self.steps, self.units))
        results: dict[str, Tensor | None] = {
            "output": self.new(self.steps, self.batch, self.units),
            "h_n": self.new(self.batch, self.units),
            "c_n": self.new(self.batch, self.units) if has_cell else None,
        }
        saved = self.new(self.run(0, statistics, results) if self.flag else 0)
        results["saved"] = saved if self.flag else None
        results["scratch"] = torch.empty(self.run(1, statistics, results), dtype=torch.uint8)
        self.run(3, statistics, results)
        return tuple(t for t in (*list(results.values())[:3], statistics, saved) if t is not None)

    def backward(self, statistics: Tensor, saved: Tensor, gradients: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        biases = self.gates + (self.gates == 3)
        out: dict[str, Tensor] = {"grad_x": self.new(self.steps if self.flag else 0, self.batch, self.inputs)}
        out["grad_h0"] = self.new(self.batch, self.units)
        if self.gates == 4:
            out["grad_c0"] = self.new(self.batch, self.units)
        out["grad_ih"] = self.new(self.gates * self.units, self.inputs)
        out["grad_hh"] = self.new(self.gates * self.units, self.units)
        bias, sites = self.new(biases * self.units), self.new((3 * self.gates + 2) * self.units)
        results: dict[str, Tensor | None] = {**out, "saved": saved}
        results["grad_x"] = out["grad_x"] if self.flag else None
        results["grad_bias"], results["grad_bias_hn"] = bias[: self.gates * self.units], None
        if self.gates == 3:
            results["grad_bias_hn"] = bias[self.gates * self.units :]
        given = [None if t is None else t.contiguous() for t in gradients]
        results |= zip(("grad_output", "grad_h_n", "grad_c_n"), given, strict=False)
        results["scratch"] = torch.empty(self.run(2, statistics, results, sites), dtype=torch.uint8)
        self.run(4, statistics, results, sites)
        return (*out.values(), bias, sites)


SITES = "Tensor[] sites, int[] layout, float[] eps, Tensor? batch_sizes, Tensor? mask, Tensor? zoneout_h, "
WEIGHTS = "Tensor weight_ih, Tensor weight_hh, Tensor? bias, "
OWN = {"lstm": "", "gru": "Tensor? bias_hn, ", "rnn": "bool relu, "}
library = torch.library.Library("bnrnn", "DEF")


def define(cell: str) -> None:
    states = 2 if cell == "lstm" else 1
    names = ["h", "c"][:states]
    more = "Tensor? zoneout_c, " if cell == "lstm" else ""
    tail = WEIGHTS + OWN[cell] + SITES + more
    initial, finals = "".join(f"Tensor {n}0, " for n in names), "".join(f"Tensor? grad_{n}_n, " for n in names)
    results = ", ".join(["Tensor"] * (3 + states))
    gradients = ", ".join(["Tensor"] * (5 + states))
    library.define(f"{cell}(Tensor x, {initial}{tail}bool bfloat16, bool keep) -> ({results})")
    library.define(
        f"{cell}_backward(Tensor? grad_output, {finals}Tensor statistics, Tensor saved, Tensor x, {tail}"
        f"bool bfloat16, bool need_x) -> ({gradients})"
    )

    def forward(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        given = [*arguments[:states], None][:2]
        return Call(cell, x, given, arguments[states:]).forward()

    def backward(*arguments: Any) -> tuple[Tensor, ...]:
        gradients, (statistics, saved, x, *rest) = arguments[: 1 + states], arguments[1 + states :]
        return Call(cell, x, (None, None), rest).backward(statistics, saved, gradients)

    library.impl(cell, forward, "CPU")
    library.impl(f"{cell}_backward", backward, "CPU")


def step(
    net: int, x: Tensor, h: Tensor, c: Tensor | None, weight_ih: Tensor, weight_hh: Tensor, table: Tensor, row: int,
    zoneout_h: float, zoneout_c: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    is_index = not x.is_floating_point()
    new_h, new_c = torch.empty_like(h), h.new_empty(h.shape[0] if net == 0 else 0, h.shape[1])
    tensors = [None if is_index else x, x if is_index else None, h, c, weight_ih, weight_hh, table[row], new_h, new_c]
    numbers = [5, net, h.shape[0], weight_ih.shape[1], h.shape[1]]
    machine().call(h.dtype == torch.float64, numbers, [zoneout_h, zoneout_c], tensors)
    return new_h, new_c


def no_average(*_: Any) -> None:
    raise RuntimeError("averages are library.cpp's work, which is not emulated")


def use_instruction_set(name: str) -> None:
    if name != "baseline":
        raise RuntimeError(f"instruction set {name} is not available; available are baseline")


def answer(name: str, schema: str, value: Any) -> None:
    library.define(f"{name}{schema}")
    library.impl(name, value, "CompositeExplicitAutograd")


@cache
def load() -> None:
    """In place of the shared object."""
    for cell in NETS:
        define(cell)
    library.define(
        "step(int net, Tensor x, Tensor h, Tensor? c, Tensor weight_ih, Tensor weight_hh, Tensor table, int row, "
        "float zoneout_h, float zoneout_c) -> (Tensor, Tensor)"
    )
    library.impl("step", step, "CPU")
    answer(
        "average_",
        "(Tensor(a!) mean, Tensor(b!) var, Tensor(c!) count, Tensor batch_mean, Tensor batch_var, int start, "
        "float momentum) -> ()",
        no_average,
    )
    answer("vector_bytes", "() -> int", lambda: 16)
    answer("instruction_set", "() -> str", lambda: "baseline")
    answer("instruction_sets", "() -> str", lambda: "baseline")
    answer("use_instruction_set", "(str name) -> ()", use_instruction_set)
    for register in _library._registrations:
        register()


_library._load = load  # type: ignore[assignment]
_library.OBJECT = Path(__file__)
