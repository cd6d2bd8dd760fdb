"""The CPU kernels against the float64 reference: results, states, statistics and all gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.cpu_cases import Call, Case, build, run, variants, worst
from tests.ops.every_kernel import (
    CHOSEN,
    OPS,
    SITES,
    test_a_projection_in_bfloat16_is_no_further_off_than_the_reference,  # noqa: F401
    test_a_second_backward_gives_the_same,  # noqa: F401
    test_any_layout_of_the_arguments,  # noqa: F401
    test_autocast_is_bfloat16,  # noqa: F401
    test_bfloat16_is_no_further_off_than_the_reference,  # noqa: F401
    test_chunks_with_population_statistics_equal_the_whole,  # noqa: F401
    test_double_backward_names_the_reference,  # noqa: F401
    test_only_some_results_may_have_gradients,  # noqa: F401
    test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same,  # noqa: F401
)

from bnrnn import ops
from bnrnn.ops import Site, Sites, loading

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}
pytestmark = pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, torch's and the pool's, so that reading what was never written shows."""
    assert loading.why_not() is None
    torch.use_deterministic_algorithms(True)
    torch.ops.bnrnn.poison_memory(True)
    yield
    torch.ops.bnrnn.poison_memory(False)
    torch.use_deterministic_algorithms(False)


def grid() -> list[Case]:
    cases = []
    for cell, all_sites in SITES.items():
        for sites in all_sites:
            base = Case(cell, sites=sites)
            cases += [
                base,
                *variants(base, population=[True], one_hot=[True], mask=[True], zoneout=["mask", "expectation"]),
                replace(base, lengths=True, batch=9),
                replace(base, lengths=True, batch=9, mask=True, zoneout="mask", min_rows=4),
                replace(base, steps=30, batch=23, inputs=40, units=70),
                replace(base, bias=False, gamma=False, nonlinearity="relu"),
            ]
            if cell == "lstm":
                cases += [
                    *variants(base, projection=[8, 33], seed=[1]),
                    replace(base, projection=5, lengths=True, batch=9, mask=True, zoneout="mask", min_rows=4),
                    replace(base, projection=41, steps=30, batch=23, inputs=40, units=70),
                ]
    return cases


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", grid(), ids=lambda case: f"{case.cell}-{case.name}")
def test_agrees_with_the_reference(case: Case, dtype: torch.dtype) -> None:
    name, error = worst(OPS[case.cell], case, dtype)
    assert error < TOLERANCE[dtype], name


@pytest.mark.parametrize("cell", OPS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_agrees_at_any_size(cell: str, data: st.DataObject) -> None:
    case = Case(
        cell,
        steps=data.draw(st.integers(1, 6)),
        batch=data.draw(st.integers(2, 70)),
        inputs=data.draw(st.integers(1, 70)),
        units=data.draw(st.integers(1, 70)),
        sites=data.draw(st.sampled_from(SITES[cell])),
        population=data.draw(st.booleans()),
        lengths=data.draw(st.booleans()),
        one_hot=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 100)),
    )
    name, error = worst(OPS[cell], case, torch.float64)
    assert error < 1e-9, name


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_agrees(cell: str, norm: str, isa: str) -> None:
    if isa not in loading.facts()["instruction_sets"]:
        pytest.skip(f"this processor has no {isa}")
    best = torch.ops.bnrnn.instruction_set()
    torch.ops.bnrnn.use_instruction_set(isa)
    try:
        base, projections = Case(cell, sites=CHOSEN[norm][cell]), [6, 35] if cell == "lstm" else []
        for case in variants(base, units=[1, 7, 33, 70], batch=[4, 17], inputs=[41], projection=projections):
            for dtype, tolerance in TOLERANCE.items():
                name, error = worst(OPS[cell], case, dtype)
                assert error < tolerance, (case.name, name)
    finally:
        torch.ops.bnrnn.use_instruction_set(best)


def test_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(RuntimeError, match="available are baseline"):
        torch.ops.bnrnn.use_instruction_set("sse9")


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize(("cell", "projection"), [*((cell, 0) for cell in OPS), ("lstm", 130)])
def test_any_number_of_threads_gives_the_same_bits(cell: str, projection: int, norm: str) -> None:
    case = Case(cell, steps=40, batch=20, inputs=70, units=200, projection=projection, sites=CHOSEN[norm][cell])
    call = build(case).to(torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(run(OPS[cell], call, "cpu"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(value, other[name]), name


def test_an_index_out_of_range_is_refused() -> None:
    call = build(Case("lstm", one_hot=True))
    x = call.args[0]
    assert x is not None
    x[3, 1] = 3
    with pytest.raises(RuntimeError, match=r"index 3 .* allowed are 0 to 2"):
        ops.lstm(*call.args, backend="cpu", **call.kwargs)  # type: ignore[arg-type]


def unsupported_calls() -> dict[str, tuple[Call, str]]:
    plain = build(Case("lstm"))
    x, h0, _, _, weight_hh, _ = plain.args
    n = weight_hh.shape[0]  # type: ignore[union-attr]

    def with_sites(**sites: Site) -> Call:
        return Call(plain.args, {"sites": Sites(**sites)}, {})

    return {
        "half precision": (plain.to(torch.float16), "float16"),
        "mixed precision": (Call((x.float(), *plain.args[1:]), plain.kwargs, {}), "different dtypes"),  # type: ignore[union-attr]
        "statistics in another precision": (with_sites(recurrent=Site("frame", torch.ones(n))), "another dtype"),
        "offset": (with_sites(input=Site("frame", beta=torch.zeros(n, dtype=torch.float64))), "offset"),
        "trained mask": (
            Call(plain.args, {**plain.kwargs, "recurrent_mask": torch.ones_like(h0, requires_grad=True)}, {}),  # type: ignore[arg-type]
            "requires a gradient",
        ),
        "other device": (
            Call(tuple(t if t is None else t.to("meta") for t in plain.args), plain.kwargs, {}),
            "meta",
        ),
    }


@pytest.mark.parametrize("which", unsupported_calls())
def test_what_a_kernel_does_not_cover_is_said(which: str) -> None:
    call, reason = unsupported_calls()[which]
    with pytest.raises(ValueError, match=reason):
        ops.lstm(*call.args, backend="cpu", **call.kwargs)  # type: ignore[arg-type]


def test_facts_name_the_instruction_set() -> None:
    facts = loading.facts()
    assert facts["available"]
    assert facts["instruction_set"] in facts["instruction_sets"]


def load_again(monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    """Look for the shared object elsewhere. What has been loaded stays: its operators can be registered only once."""
    monkeypatch.setattr(loading, "OBJECT", path)
    monkeypatch.setattr(loading, "_load", loading._load.__wrapped__)


def test_an_installation_without_kernels_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    load_again(monkeypatch, loading.OBJECT.with_name("missing.so"))
    assert "installed without CPU kernels" in str(loading.facts()["reason"])
    call = build(Case("lstm"), requires_grad=False)
    with pytest.raises(ValueError, match="C\\+\\+ compiler"):
        ops.lstm(*call.args, backend="cpu", **call.kwargs)  # type: ignore[arg-type]
    assert ops.lstm(*call.args, **call.kwargs)[0].shape == (7, 5, 19)  # type: ignore[arg-type]


def test_a_broken_object_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not an object")
    load_again(monkeypatch, broken)
    assert "could not be loaded" in str(loading.facts()["reason"])


def test_an_object_of_other_sources_is_not_even_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Loading it could end the process: what it defines may be defined already."""
    loaded: list[Any] = []
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "library.cpp").write_bytes(b"// the sources\n")
    path = tmp_path / "_kernels.so"
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    load_again(monkeypatch, path)
    for content in (b"", b"code", b"bnrnn sources " + b"0" * 64):
        path.write_bytes(content)
        assert "built from other sources" in str(loading.facts()["reason"])
    assert not loaded
    digest = hashlib.sha256(b"// the sources\n").hexdigest()
    path.write_bytes(b"code bnrnn sources " + digest.encode() + b" more code")
    assert loading.why_not() is None
    assert loaded == [path]
