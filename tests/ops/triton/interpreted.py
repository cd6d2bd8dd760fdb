"""Triton's kernels in its interpreter against the float64 reference. The variable that has them interpreted acts when
they are defined, so test_interpreted.py runs this file in a process of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.ops.compiled_kernels import arguments
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
from tests.ops.test_cpu_numerics import far_from_zero
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence
from triton.runtime.interpreter import InterpretedFunction

import bnrnn
from bnrnn.ops import Site, Sites, autograd, layout
from bnrnn.ops._triton import availability, choice, plan
from bnrnn.ops._triton.plan import unsupported_sites
from bnrnn.ops.references import REFERENCES

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
OPTIONS: list[dict[str, Any]] = [
    {"batch": 6, "lengths": True, "mask": True, "zoneout": "mask", "min_rows": 4, "seed": 1},
    {"one_hot": True, "zoneout": "expectation", "bias": False, "gamma": False},
    {"steps": 2, "population": True, "nonlinearity": "relu"},
]
GRID = [replace(base, **OPTIONS[i % len(OPTIONS)]) for i, base in enumerate(BASES)]
GRID += [
    replace(base, **options)
    for base in BASES
    for options in OPTIONS
    if base.sites in (CHOSEN["recurrent"][base.cell], CHOSEN["layer"][base.cell])
    if replace(base, **options) not in GRID
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


FRAMES = [("lstm", "input"), ("lstm", "recurrent"), ("gru", "summed"), ("lstm", "cell"), ("rnn", "input")]


@pytest.mark.parametrize(("cell", "site"), FRAMES)
@pytest.mark.parametrize("rows", [64, 4])
def test_the_error_at_large_means_is_the_eager_one(
    cell: str, site: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed form of the gradient takes the normalized values' mean for 0, which rounding undoes."""
    monkeypatch.setattr(choice, "ROWS", rows)
    monkeypatch.setattr(choice, "TILE", 16)
    found: dict[str, float] = {}
    eager: dict[str, float] = {}
    for seed in range(2):
        call = far_from_zero(Case(cell, 2, 64, 5, 7, ((site, "frame"),), seed=seed), site, 300.0)
        expected = run(OPS[cell], call, "reference")
        for backend, errors in (("triton", found), ("reference", eager)):
            new = difference(run(OPS[cell], call.to(torch.float32), backend), expected)
            errors.update({name: max(error, errors.get(name, 0.0)) for name, error in new.items()})
    for name, error in found.items():
        assert error < 5 * eager[name] + 2e-6, name


def test_a_variance_is_never_negative() -> None:
    """Rows that are all alike have none; what rounding leaves in the mean is taken off it."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 4).expand(1, 14, 4)
    state, weights = torch.randn(1, 96).expand(14, 96), (torch.randn(96, 4), torch.randn(96, 96))
    sites = Sites(input=Site("frame"), recurrent=Site("frame"))
    *_, statistics = OPS["rnn"](x, state, *weights, None, sites=sites, backend="triton")
    for _, var in statistics.values():
        assert (var >= 0).all()


def test_an_index_out_of_range_gives_nan() -> None:
    """A GPU is not waited for, so nothing can be raised; memory of others is not read."""
    call = build(Case("lstm", one_hot=True), requires_grad=False)
    x = call.args[0]
    assert x is not None
    x[3, 1], x[4, 2] = 3, -1
    output, *_ = OPS["lstm"](*call.args, backend="triton", **call.kwargs)
    assert output[:3].isfinite().all()
    assert output[3:, 1].isnan().all()
    assert output[4:, 2].isnan().all()
    assert output[:, 0].isfinite().all()


MIXED = (("input", "layer"), ("recurrent", "frame"))


def test_what_the_kernels_do_not_cover_is_said() -> None:
    call = build(Case("lstm", sites=MIXED))
    with pytest.raises(ValueError, match="over the units and over the batch"):
        OPS["lstm"](*call.args, backend="triton", **call.kwargs)


@pytest.mark.parametrize("options", [{"sites": MIXED}, {"batch": 0}], ids=["mixed", "no rows"])
def test_the_operator_is_the_reference_where_the_kernels_do_not_reach(options: dict[str, Any]) -> None:
    """An exported program calls it with anything."""
    *own, _ = (t.detach() if isinstance(t, torch.Tensor) else t for t in arguments("lstm", Case("lstm", **options)))
    own[9] = [t.detach() for t in own[9]]
    output, h_n, c_n, statistics, saved = torch.ops.bnrnn.recurrence(*own, True)
    assert saved.numel() == 0
    grads = torch.ops.bnrnn.recurrence_backward(output, h_n, c_n, statistics, saved, *own, True)
    assert grads[3].isfinite().all()
    _, call = autograd.record(*own)
    torch.testing.assert_close(output, REFERENCES["lstm"](call)[0])


@pytest.mark.parametrize(
    ("cell", "norm", "options"),
    [
        ("lstm", "recurrent", {"mask": True, "zoneout": "mask", "projection": 8}),
        ("gru", "layer", {"one_hot": True}),
    ],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own from torch 2.14 on
def test_opcheck(cell: str, norm: str, options: dict[str, Any]) -> None:
    """Above all that the shapes of results, and of what is kept, are known without data."""
    case = Case(cell, 2, sites=CHOSEN[norm][cell], **options)
    torch.library.opcheck(torch.ops.bnrnn.recurrence.default, arguments(cell, case))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shapes_and_types_of_half_precision_without_data(dtype: torch.dtype) -> None:
    own = list(arguments("gru", Case("gru", 2, mask=True, sites=CHOSEN["recurrent"]["gru"])))
    for i in (1, 4, 5):
        own[i] = own[i].detach().to(dtype).requires_grad_()
    found = torch.ops.bnrnn.recurrence(*own)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.ops.bnrnn.recurrence(*own)
    assert [(t.shape, t.dtype) for t in found] == [(t.shape, t.dtype) for t in fake]
    grads = torch.autograd.grad(found[0].float().sum(), [own[4], own[6]])
    assert [g.dtype for g in grads] == [dtype, torch.float32]


def test_a_layer_by_its_name() -> None:
    """Both directions, lengths and packing, as any backend has them."""
    torch.manual_seed(0)
    layer = bnrnn.LSTM(3, 5, bidirectional=True, norm="recurrent", zoneout=0.1, backend="triton", dtype=torch.float64)
    reference = copy.deepcopy(layer)
    reference.backend = "reference"
    packed = pack_padded_sequence(
        torch.randn(4, 3, 3, dtype=torch.float64), torch.tensor([4, 2, 3]), enforce_sorted=False
    )
    results = []
    for each in (layer, reference):
        torch.manual_seed(1)
        output, _ = each(packed)
        output.data.square().sum().backward()
        results.append((output.data, *(p.grad for p in each.parameters()), *each.buffers()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert bnrnn.backends()["triton"] == {"available": True, "device": "Triton's interpreter"}
