"""Averages of statistics: the kernel against the plain version, and what falls back to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bnrnn.ops import average, average_, loading

needs_kernels = pytest.mark.skipif(not loading.OBJECT.exists(), reason="installed without CPU kernels")


def table(rows: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    mean, var = (torch.rand(rows, size, generator=generator, dtype=dtype) for _ in range(2))
    return mean, var, torch.arange(rows) * 7 % 4


def expected(tables: tuple[Tensor, ...], batch: tuple[Tensor, Tensor], start: int, momentum: float) -> list[Any]:
    """Row by row in Python's own numbers; then rows without a batch take those of an earlier one, or of the first."""
    mean, var, count = (t.tolist() for t in tables)
    for r in range(len(batch[0])):
        count[start + r] += 1
        weight = max(1 / count[start + r], momentum)
        for to, given in zip((mean, var), batch, strict=True):
            to[start + r] = [a + weight * (b - a) for a, b in zip(to[start + r], given[r].tolist(), strict=True)]
    reached = [r for r, n in enumerate(count) if n]
    for r in range(len(count)):
        source = max((k for k in reached if k <= r), default=reached[0])
        mean[r], var[r] = mean[source], var[source]
    return [mean, var, count]


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    ("rows", "start", "size", "steps"), [(1, 0, 5, 1), (9, 0, 33, 9), (9, 4, 33, 5), (40, 3, 801, 30)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("plain", [True, pytest.param(False, marks=needs_kernels)])
def test_rows_move_by_the_weight_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, plain: bool, dtype: torch.dtype, rows: int, start: int, size: int, steps: int,
    momentum: float,
) -> None:  # fmt: skip
    if plain:
        monkeypatch.setattr(average, "_takes", lambda *_: False)
    tables, (mean, var, _) = table(rows, size, dtype), table(steps, size, dtype)
    want = expected(tables, (mean, var), start, momentum)
    average_(*tables, mean, var, start, momentum)
    for found, values in zip(tables, want, strict=True):
        torch.testing.assert_close(found, torch.tensor(values, dtype=found.dtype))


@needs_kernels
@pytest.mark.parametrize("case", ["another dtype", "columns apart"])
def test_what_the_kernel_does_not_take_gives_the_same(case: str) -> None:
    exact = table(6, 4, torch.float64)
    mean, var, count = exact
    if case == "columns apart":
        mean = mean.t().contiguous().t()
    else:
        mean, var = mean.float(), var.float()
    batch = table(6, 4, torch.float64)[:2]
    average_(mean, var, count.clone(), *batch, 0, 0.1)
    average_(*exact, *batch, 0, 0.1)
    torch.testing.assert_close(mean.double(), exact[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(var.double(), exact[1], atol=1e-6, rtol=0)
