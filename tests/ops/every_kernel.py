"""What every backend's kernels have to do. A backend's own file of tests imports these; the interpreter's process runs
them with Triton's kernels.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from tests.ops.cpu_cases import Call, Case, build, difference, run

from bnrnn import ops
from bnrnn.ops import Sites
from bnrnn.ops._triton.availability import INTERPRETED

BACKEND = "triton" if INTERPRETED else "cpu"
STEPS, LONG, PIECES = (3, 9, (1, 2, 3)) if INTERPRETED else (7, 300, (1, 3, 7))
"""Steps of a call, more than a backend holds in working memory at once, and of a sequence's pieces."""
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


@pytest.mark.parametrize("cell", OPS)
def test_chunks_with_population_statistics_equal_the_whole(cell: str) -> None:
    call = build(Case(cell, steps=sum(PIECES), sites=RECURRENT[cell], population=True), requires_grad=False).to(
        torch.float32
    )
    states = 2 if cell == "lstm" else 1
    *whole, _ = OPS[cell](*call.args, backend=BACKEND, **call.kwargs)
    outputs = []
    state = call.args[1 : 1 + states]
    for start, end in pairwise((0, *accumulate(PIECES))):
        x = call.args[0]
        assert x is not None
        sites = Sites(*[s and s._replace(mean=s.mean[start:end], var=s.var[start:end]) for s in call.kwargs["sites"]])
        output, *state, _ = OPS[cell](
            x[start:end], *state, *call.args[1 + states :], backend=BACKEND, **{**call.kwargs, "sites": sites}
        )
        outputs.append(output)
    assert torch.equal(torch.cat(outputs), whole[0])
    assert all(torch.equal(a, b) for a, b in zip(state, whole[1:], strict=True))


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_a_second_backward_gives_the_same(cell: str, norm: str) -> None:
    call = build(Case(cell, STEPS, sites=CHOSEN[norm][cell])).to(torch.float32)
    output, *_ = OPS[cell](*call.args, backend=BACKEND, **call.kwargs)
    other = build(Case(cell, STEPS, sites=CHOSEN[norm][cell], seed=1)).to(torch.float32)
    leaves = list(call.leaves.values())
    first = torch.autograd.grad(output.square().sum(), leaves, retain_graph=True)
    run(OPS[cell], other, BACKEND)
    second = torch.autograd.grad(output.square().sum(), leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_only_some_results_may_have_gradients(cell: str, norm: str) -> None:
    call = build(Case(cell, STEPS, sites=CHOSEN[norm][cell], lengths=True, batch=9))
    for i in range(3 if cell == "lstm" else 2):
        grads = [
            torch.autograd.grad(OPS[cell](*c.args, backend=b, **c.kwargs)[i].square().sum(), list(c.leaves.values()))
            for c, b in ((call, BACKEND), (call, "reference"))
        ]
        for name, ours, theirs in zip(call.leaves, *grads, strict=True):
            assert (ours - theirs).abs().max() < 1e-11 * theirs.abs().max().clamp(min=1), (i, name)


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same(cell: str, norm: str) -> None:
    call = build(Case(cell, steps=LONG, sites=CHOSEN[norm][cell])).to(torch.float32)
    trained = OPS[cell](*call.args, backend=BACKEND, **call.kwargs)
    with torch.no_grad():
        plain = OPS[cell](*call.args, backend=BACKEND, **call.kwargs)
    assert not plain[0].requires_grad
    assert torch.equal(plain[0], trained[0])


@pytest.mark.parametrize("norm", CHOSEN)
@pytest.mark.parametrize("cell", OPS)
def test_any_layout_of_the_arguments(cell: str, norm: str) -> None:
    call = build(Case(cell, STEPS, sites=CHOSEN[norm][cell], batch=6)).to(torch.float64)
    expected = run(OPS[cell], call, "reference")
    args = [a if a is None or a.dim() < 2 else a.mT.contiguous().mT for a in call.args]
    assert not args[0].is_contiguous()  # type: ignore[union-attr]
    found = run(OPS[cell], Call(tuple(args), call.kwargs, call.leaves), BACKEND)
    assert max(difference(found, expected).values()) < 1e-11


@pytest.mark.parametrize("cell", OPS)
def test_double_backward_names_the_reference(cell: str) -> None:
    call = build(Case(cell, STEPS, sites=RECURRENT[cell]))
    output, *_ = OPS[cell](*call.args, backend=BACKEND, **call.kwargs)
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
    found, reference = (run(OPS[cell], low, backend) for backend in (BACKEND, "reference"))
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
        found, reference = (difference(run(ops.lstm, low, backend), expected) for backend in (BACKEND, "reference"))
        for name in found:
            errors.setdefault(name, []).append((found[name], reference[name]))
    for name, pairs in errors.items():
        found, reference = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        assert found < 1.5 * reference + 0.01, name


@pytest.mark.parametrize("cell", OPS)
def test_autocast_is_bfloat16(cell: str) -> None:
    case = Case(cell, steps=STEPS, batch=32, inputs=24, units=40, sites=RECURRENT[cell])
    call = build(case).to(torch.float32)
    expected = run(OPS[cell], build(case), "reference")
    with torch.autocast("cpu", torch.bfloat16):
        found = run(OPS[cell], call, BACKEND)
        reference = run(OPS[cell], call, "reference")
    for name, error in difference(found, expected).items():
        assert found[name].dtype == reference[name].dtype, name
        assert error < 1.5 * difference(reference, expected)[name] + 0.01, name
