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
from tests.ops.cpu_cases import Call, Case, build, difference, run, variants, worst

from bnrnn import ops
from bnrnn.ops import Site, Sites, loading

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}
OPS = {"lstm": ops.lstm, "gru": ops.gru, "rnn": ops.rnn}
BOTH = (("input", "frame"), ("recurrent", "frame"))
SITES: dict[str, list[tuple[tuple[str, str], ...]]] = {
    "rnn": [
        (),
        BOTH,
        (("input", "frame"),),
        (("recurrent", "frame"),),
        (("summed", "frame"),),
        (("input", "sequence"),),
        (*BOTH, ("summed", "frame")),
        (("input", "layer"),),
        (("recurrent", "layer"),),
        (("summed", "layer"),),
        (("input", "layer"), ("recurrent", "layer"), ("summed", "layer")),
        (("input", "layer"), ("recurrent", "frame")),
        (("input", "sequence"), ("recurrent", "layer")),
        (*BOTH, ("summed", "layer")),
    ]
}
SITES["gru"] = SITES["rnn"]
SITES["lstm"] = [
    *SITES["rnn"],
    (("cell", "layer"),),
    (*BOTH, ("cell", "layer")),
    (("input", "layer"), ("recurrent", "layer"), ("cell", "shift")),
    (("input", "layer"), ("recurrent", "layer"), ("summed", "frame"), ("cell", "layer")),
    (("cell", "shift"),),
    (("cell", "frame"),),
    (*BOTH, ("cell", "frame")),
    (("input", "sequence"), ("recurrent", "frame"), ("cell", "frame")),
    (*BOTH, ("summed", "frame"), ("cell", "frame")),
]
RECURRENT = {"lstm": (*BOTH, ("cell", "frame")), "gru": BOTH, "rnn": BOTH}
LAYER = (("input", "layer"), ("recurrent", "layer"), ("summed", "layer"))
CHOSEN = {
    "recurrent": RECURRENT,
    "layer": {"lstm": (*LAYER, ("cell", "layer")), "gru": LAYER, "rnn": LAYER},
}

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


@pytest.mark.parametrize("cell", OPS)
def test_chunks_with_population_statistics_equal_the_whole(cell: str) -> None:
    call = build(Case(cell, steps=11, sites=RECURRENT[cell], population=True), requires_grad=False).to(torch.float32)
    states = 2 if cell == "lstm" else 1
    *whole, _ = OPS[cell](*call.args, backend="cpu", **call.kwargs)
    outputs = []
    state = call.args[1 : 1 + states]
    for start, end in ((0, 1), (1, 4), (4, 11)):
        x = call.args[0]
        assert x is not None
        sites = Sites(*[s and s._replace(mean=s.mean[start:end], var=s.var[start:end]) for s in call.kwargs["sites"]])
        output, *state, _ = OPS[cell](
            x[start:end], *state, *call.args[1 + states :], backend="cpu", **{**call.kwargs, "sites": sites}
        )
        outputs.append(output)
    assert torch.equal(torch.cat(outputs), whole[0])
    assert all(torch.equal(a, b) for a, b in zip(state, whole[1:], strict=True))


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_a_second_backward_gives_the_same(cell: str, norm: str) -> None:
    call = build(Case(cell, sites=CHOSEN[norm][cell])).to(torch.float32)
    output, *_ = OPS[cell](*call.args, backend="cpu", **call.kwargs)
    other = build(Case(cell, sites=CHOSEN[norm][cell], seed=1)).to(torch.float32)
    leaves = list(call.leaves.values())
    first = torch.autograd.grad(output.square().sum(), leaves, retain_graph=True)
    run(OPS[cell], other, "cpu")
    second = torch.autograd.grad(output.square().sum(), leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_only_some_results_may_have_gradients(cell: str, norm: str) -> None:
    call = build(Case(cell, sites=CHOSEN[norm][cell], lengths=True, batch=9))
    for i in range(3 if cell == "lstm" else 2):
        grads = [
            torch.autograd.grad(OPS[cell](*c.args, backend=b, **c.kwargs)[i].square().sum(), list(c.leaves.values()))
            for c, b in ((call, "cpu"), (call, "reference"))
        ]
        for name, ours, theirs in zip(call.leaves, *grads, strict=True):
            assert (ours - theirs).abs().max() < 1e-11, (i, name)


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same(cell: str, norm: str) -> None:
    call = build(Case(cell, steps=300, sites=CHOSEN[norm][cell])).to(torch.float32)
    trained = OPS[cell](*call.args, backend="cpu", **call.kwargs)
    with torch.no_grad():
        plain = OPS[cell](*call.args, backend="cpu", **call.kwargs)
    assert not plain[0].requires_grad
    assert torch.equal(plain[0], trained[0])


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_any_layout_of_the_arguments(cell: str, norm: str) -> None:
    call = build(Case(cell, sites=CHOSEN[norm][cell], batch=6)).to(torch.float64)
    expected = run(OPS[cell], call, "reference")
    args = [a if a is None or a.dim() < 2 else a.mT.contiguous().mT for a in call.args]
    assert not args[0].is_contiguous()  # type: ignore[union-attr]
    found = run(OPS[cell], Call(tuple(args), call.kwargs, call.leaves), "cpu")
    assert max(difference(found, expected).values()) < 1e-11


@pytest.mark.parametrize("cell", OPS)
def test_double_backward_names_the_reference(cell: str) -> None:
    call = build(Case(cell, sites=RECURRENT[cell]))
    output, *_ = OPS[cell](*call.args, backend="cpu", **call.kwargs)
    (grad,) = torch.autograd.grad(output.square().sum(), call.leaves["weight_hh"], create_graph=True)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        grad.square().sum().backward()


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
@pytest.mark.parametrize("options", [{}, {"mask": True, "zoneout": "mask", "lengths": True}, {"one_hot": True}])
def test_bfloat16_is_no_further_off_than_the_reference(cell: str, norm: str, options: dict[str, Any]) -> None:
    case = Case(cell, steps=9, batch=32, inputs=24, units=40, sites=CHOSEN[norm][cell], **options)
    call = build(case)
    low = call.to(torch.bfloat16)
    expected = run(OPS[cell], low.to(torch.float64), "reference")
    found, reference = (run(OPS[cell], low, backend) for backend in ("cpu", "reference"))
    for name, error in difference(found, expected).items():
        assert found[name].dtype == reference[name].dtype, name
        assert error < 1.5 * difference(reference, expected)[name] + 0.01, name


@pytest.mark.parametrize("norm", CHOSEN)
def test_a_projection_in_bfloat16_is_no_further_off_than_the_reference(norm: str) -> None:
    """On the average of several calls: in some, rows of little variance magnify one rounding over another."""
    errors: dict[str, list[tuple[float, float]]] = {}
    for seed in range(8):
        case = Case("lstm", 9, 32, 24, 40, CHOSEN[norm]["lstm"], mask=True, projection=17, seed=seed)
        low = build(case).to(torch.bfloat16)
        expected = run(ops.lstm, low.to(torch.float64), "reference")
        found, reference = (difference(run(ops.lstm, low, backend), expected) for backend in ("cpu", "reference"))
        for name in found:
            errors.setdefault(name, []).append((found[name], reference[name]))
    for name, pairs in errors.items():
        found, reference = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        assert found < 1.5 * reference + 0.01, name


@pytest.mark.parametrize("cell", OPS)
def test_autocast_is_bfloat16(cell: str) -> None:
    case = Case(cell, steps=9, batch=32, inputs=24, units=40, sites=RECURRENT[cell])
    call = build(case).to(torch.float32)
    expected = run(OPS[cell], build(case), "reference")
    with torch.autocast("cpu", torch.bfloat16):
        found = run(OPS[cell], call, "cpu")
        reference = run(OPS[cell], call, "reference")
    for name, error in difference(found, expected).items():
        assert found[name].dtype == reference[name].dtype, name
        assert error < 1.5 * difference(reference, expected)[name] + 0.01, name


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
