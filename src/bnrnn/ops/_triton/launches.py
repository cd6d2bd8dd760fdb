"""Launches of the kernels that do the recurrent product themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnrnn.ops._triton import availability, fused
from bnrnn.ops._triton.choice import Choice, depth
from bnrnn.ops.cells import Cell


def multiprocessors(device: torch.device) -> int:
    """Of the device; the interpreter has any number."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1 << 16


def precision(dtype: torch.dtype) -> str:
    """Of the products of one dtype: TF32 where torch's own have it."""
    return "tf32" if dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


class Fused:
    """One pass over a sequence by the kernels of ``fused.py``, where these are chosen.

    Args:
        choice: the kernel and its tile.
        cell: its facts.
        grid, tile: of the launches.
        weight: of the product, a row for each of its columns.
    """

    def __init__(self, choice: Choice, cell: Cell, grid: tuple[int, int], tile: dict[str, Any], weight: Tensor) -> None:
        self.does_products = choice.kernel != "step"
        if not self.does_products:
            return
        self.weight = weight.contiguous()
        self.grid = grid
        self.scans = choice.kernel == "scan"
        # the interpreter runs one program after the other: none could wait for another
        self.meets = self.scans and not availability.INTERPRETED
        along = depth(choice, weight.shape[1], weight.itemsize)
        self.options: dict[str, Any] = {
            "CELL": cell.number, "GATES": cell.gates, "BLOCK": along.block, "PRECISION": precision(weight.dtype),
            "UPCAST": availability.INTERPRETED and weight.itemsize == 2,
            "num_warps": choice.warps, "num_stages": along.stages, **tile,
        }  # fmt: skip
        if self.scans:
            self.options |= {"HOLD": along.held, "MEET": self.meets}
            self.counter = torch.zeros(1, dtype=torch.int32, device=weight.device)
        if self.meets:
            self.options["launch_cooperative_grid"] = True

    def steps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """First and last steps of each launch of a scan, going forward."""
        return [(start, stop)] if self.meets else [(t, t + 1) for t in range(start, stop)]

    def forward(self, values: Any, results: Any, shape: Any, start: int, stop: int) -> None:
        """Steps ``start`` to ``stop``."""
        if self.scans:
            kernel: Any = fused.scan_forward[self.grid]
            for first, last in self.steps(start, stop):
                kernel(values, results, self.weight, self.counter, first, last, *shape, **self.options)
        else:
            kernel: Any = fused.dot_forward[self.grid]
            for t in range(start, stop):
                kernel(values, results, self.weight, t, *shape, **self.options)

    def backward(self, values: Any, grads: Any, shape: Any, start: int, stop: int, features: int) -> None:
        """Steps ``stop - 1`` down to ``start``."""
        if self.scans:
            kernel: Any = fused.scan_backward[self.grid]
            for first, last in reversed(self.steps(start, stop)):
                kernel(values, grads, self.weight, self.counter, first, last, *shape, features, **self.options)
        else:
            kernel: Any = fused.dot_backward[self.grid]
            for t in reversed(range(start, stop)):
                kernel(values, grads, self.weight, t, *shape, features, **self.options)
