"""Triton's kernels in its interpreter against the float64 reference. The variable that has them interpreted acts when
they are defined, so test_interpreted.py runs this file in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.ops.cpu_cases import Case, build, difference, run, worst
from tests.ops.every_kernel import (
    CHOSEN,
    OPS,
    SITES,
    test_a_second_backward_gives_the_same,  # noqa: F401
    test_any_layout_of_the_arguments,  # noqa: F401
    test_autocast_is_bfloat16,  # noqa: F401
    test_chunks_with_population_statistics_equal_the_whole,  # noqa: F401
    test_double_backward_names_the_reference,  # noqa: F401
    test_only_some_results_may_have_gradients,  # noqa: F401
    test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same,  # noqa: F401
)
from triton.runtime.interpreter import InterpretedFunction

from bnrnn.ops import layout
from bnrnn.ops._triton import availability, choice, plan
from bnrnn.ops._triton.plan import unsupported_sites

original = InterpretedFunction.__call__


def call(self: InterpretedFunction[Any], *args: Any, **kwargs: Any) -> Any:
    """A function inside of a kernel. Triton's own has its language patched each time, which the launch of a kernel has
    done before, but for the functions of that language itself; it takes half of the time.
    """
    if self.fn.__module__.startswith("triton."):
        return original(self, *args, **kwargs)
    return self.rewrite()(*args, **kwargs)


@pytest.fixture(autouse=True)
def _poisoned_memory_and_short_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds NaN, and few rows are held at once. A tile's size costs the interpreter nothing, a program's
    launch much.
    """
    assert availability.INTERPRETED
    assert torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setattr(plan, "CHUNK", 18)
    monkeypatch.setattr(choice, "UNITS", 16)
    monkeypatch.setattr(InterpretedFunction, "__call__", call)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def supported(case: Case) -> bool:
    return unsupported_sites(layout.flatten(build(case).kwargs["sites"])[1]) is None


BASES = [
    case
    for cell, all_sites in SITES.items()
    for sites in all_sites
    if supported(case := Case(cell, 4, 5, 3, 19, sites))
]
GRID = [
    changed
    for base in BASES
    for changed in (
        replace(base, batch=6, lengths=True, mask=True, zoneout="mask", min_rows=4, seed=1),
        replace(base, one_hot=True, zoneout="expectation", bias=False, gamma=False),
        replace(base, steps=2, population=True, nonlinearity="relu"),
    )
]


@pytest.mark.parametrize("case", GRID, ids=lambda case: f"{case.cell}-{case.name}")
def test_agrees_with_the_reference_in_float64(case: Case) -> None:
    name, error = worst(OPS[case.cell], case, torch.float64, "triton")
    assert error < 1e-9, name


PROJECTED = [
    Case("lstm", 3, 6, 3, 19, CHOSEN["recurrent"]["lstm"], lengths=True, mask=True, zoneout="mask", projection=7),
    Case("lstm", 3, 5, 3, 19, CHOSEN["layer"]["lstm"], one_hot=True, zoneout="expectation", projection=23),
    Case("lstm", 3, 5, 3, 5, projection=4),
]
TILED = [
    Case("lstm", 3, 9, 3, 11, (*CHOSEN["recurrent"]["lstm"], ("summed", "frame"))),
    Case("lstm", 4, 9, 3, 11, CHOSEN["recurrent"]["lstm"], lengths=True, mask=True, zoneout="mask", min_rows=5),
    Case("gru", 3, 9, 3, 11, (*CHOSEN["recurrent"]["gru"], ("summed", "frame"))),
    Case("rnn", 4, 9, 3, 11, (("summed", "frame"),), lengths=True, one_hot=True),
    Case("lstm", 3, 9, 3, 11),
]


@pytest.mark.parametrize("case", PROJECTED, ids=lambda case: f"{case.cell}-{case.name}")
def test_a_projection_agrees_with_the_reference(case: Case) -> None:
    name, error = worst(OPS[case.cell], case, torch.float64, "triton")
    assert error < 1e-9, name


@pytest.mark.parametrize("case", TILED, ids=lambda case: f"{case.cell}-{case.name}")
def test_more_rows_than_a_tile_holds(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics, and sums of gradients, are merged over tiles."""
    monkeypatch.setattr(choice, "ROWS", 4)
    monkeypatch.setattr(choice, "TILE", 4)
    call = build(case)
    expected = run(OPS[case.cell], call, "reference")
    errors = difference(run(OPS[case.cell], call, "triton"), expected)
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_half_precision_is_no_further_off_than_the_reference(cell: str, norm: str, dtype: torch.dtype) -> None:
    options = {"mask": True, "zoneout": "mask", "lengths": True} if dtype == torch.bfloat16 else {}
    case = Case(cell, 4, 16, 8, 20, CHOSEN[norm][cell], projection=7 if cell == "lstm" else 0, **options)
    low = build(case).to(dtype)
    expected = run(OPS[cell], low.to(torch.float64), "reference")
    found, reference = (run(OPS[cell], low, backend) for backend in ("triton", "reference"))
    for name, error in difference(found, expected).items():
        assert found[name].dtype == reference[name].dtype, name
        assert error < 1.5 * difference(reference, expected)[name] + 0.01, name


@pytest.mark.parametrize("case", BASES, ids=lambda case: f"{case.cell}-{case.name}")
def test_is_off_by_as_much_as_eager_float32(case: Case) -> None:
    call = build(case)
    expected = run(OPS[case.cell], call, "reference")
    found, eager = (
        difference(run(OPS[case.cell], call.to(torch.float32), backend), expected)
        for backend in ("triton", "reference")
    )
    for name, error in found.items():
        assert error < 5 * eager[name] + 2e-6, name


FUSED = [
    changed
    for cell, sites in CHOSEN["recurrent"].items()
    for changed in (
        Case(cell, 4, 5, 3, 19, sites, mask=True, lengths=True, zoneout="mask", min_rows=3),
        Case(cell, 3, 5, 3, 19, (("summed", "frame"),), one_hot=True),
        Case(cell, 3, 5, 3, 35, sites=(), bias=False),
    )
] + [Case("lstm", 3, 5, 3, 19, CHOSEN["recurrent"]["lstm"], population=True)]


@pytest.mark.parametrize("kernel", ["dot", "scan"])
@pytest.mark.parametrize("case", FUSED, ids=lambda case: f"{case.cell}-{case.name}")
def test_products_in_the_kernel(case: Case, kernel: choice.Kernel) -> None:
    """A scan one step a launch: its programs would wait for each other here."""
    with choice.using(kernel):
        name, error = worst(OPS[case.cell], case, torch.float64, "triton")
    assert error < 1e-9, name


@pytest.mark.parametrize("kernel", ["dot", "scan"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_in_the_kernel_are_off_by_as_much_as_eager_ones(dtype: torch.dtype, kernel: choice.Kernel) -> None:
    case = Case("lstm", 3, 20, 6, 19, CHOSEN["recurrent"]["lstm"])
    call = build(case).to(dtype)
    expected = run(OPS["lstm"], call.to(torch.float64), "reference")
    eager = difference(run(OPS["lstm"], call, "reference"), expected)
    with choice.using(kernel):
        found = difference(run(OPS["lstm"], call, "triton"), expected)
    for name, error in found.items():
        assert error < 5 * eager[name] + torch.finfo(dtype).eps, name


def test_a_kernel_that_does_not_cover_a_call_says_why() -> None:
    case = Case("lstm", 3, 5, 3, 19, CHOSEN["layer"]["lstm"])
    with choice.using("dot"), pytest.raises(ValueError, match="'dot' takes no layer normalization"):
        run(OPS["lstm"], build(case), "triton")
