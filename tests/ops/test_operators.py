"""The operators as torch knows them: what they refuse, where they run, how they are differentiated and counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from tests.ops.cpu_cases import Call, Case, build
from torch import Tensor
from torch.autograd.functional import jacobian

from bnrnn import ops
from bnrnn.ops import Site, Sites, loading

ROOT = Path(__file__).parents[2]
OPS = {"lstm": ops.lstm, "gru": ops.gru, "rnn": ops.rnn}
BOTH = (("input", "frame"), ("recurrent", "frame"))
needs_kernels = pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")


def in_a_process(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "BNRNN_TYPECHECK": "0"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    return result.stdout


@needs_kernels
def test_what_does_not_fit_is_refused_without_a_crash() -> None:
    shown = in_a_process("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/wrong_arguments.py")
    assert "140 passed" in shown


EXPORT = """
import sys, torch
from bnrnn import ops
from bnrnn.ops import Site, Sites

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_ih, self.weight_hh = (torch.nn.Parameter(torch.full((12, n), 0.1)) for n in (2, 3))
        self.gamma = torch.nn.Parameter(torch.full((12,), 0.5))

    def forward(self, x, h, c):
        sites = Sites(recurrent=Site("frame", self.gamma))
        return ops.lstm(x, h, c, self.weight_ih, self.weight_hh, None, sites=sites, backend="cpu")[0]

inputs = torch.arange(24.).view(4, 3, 2) / 9, torch.arange(9.).view(3, 3) / 4, torch.ones(3, 3)
program = torch.export.export(Net(), inputs)
assert any("bnrnn.recurrence" in str(node.target) for node in program.graph.nodes)
torch.export.save(program, sys.argv[1])
torch.save((inputs, Net()(*inputs)), sys.argv[2])
"""
OPEN = """
import sys, torch
import bnrnn
from bnrnn.ops import loading
if sys.argv[3] == "without":
    loading.OBJECT = loading.OBJECT.with_name("missing.so")
program = torch.export.load(sys.argv[1])
inputs, expected = torch.load(sys.argv[2])
found = program.module()(*inputs)
torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
assert (loading.why_not() is None) == (sys.argv[3] == "with")
assert hasattr(torch.ops.bnrnn, "vector_bytes") == (sys.argv[3] == "with")
"""


@needs_kernels
def test_an_exported_program_opens_with_the_package_alone(tmp_path: Path) -> None:
    """With the object, which its first call loads, and where there is none, by the reference."""
    files = [str(tmp_path / "program.pt2"), str(tmp_path / "numbers.pt")]
    in_a_process("-c", EXPORT, *files)
    for kernels in ("with", "without"):
        in_a_process("-c", OPEN, *files, kernels)


WITHOUT = """
import sys, torch
from tests.ops.compiled_kernels import CHOSEN, arguments
from tests.ops.cpu_cases import Case
from bnrnn.ops import layout, loading
from bnrnn.ops.cells import NUMBERED
results = {}
if sys.argv[1] == "without":
    loading.OBJECT = loading.OBJECT.with_name("missing.so")
for cell in ("lstm", "gru", "rnn"):
    for norm in CHOSEN:
        for options in ({}, {"mask": True, "zoneout": "mask", "lengths": True, "batch": 9}, {"one_hot": True}):
            case = Case(cell, sites=CHOSEN[norm][cell], **options)
            *own, _ = arguments(cell, case, torch.float64)
            own = [t.detach() if isinstance(t, torch.Tensor) else t for t in own]
            own[9] = [t.detach() for t in own[9]]
            output, h_n, c_n, statistics, saved = torch.ops.bnrnn.recurrence(*own, True)
            assert (saved.numel() == 0) == (sys.argv[1] == "without")
            grads = torch.ops.bnrnn.recurrence_backward(
                output.cos(), h_n, c_n if own[3] is not None else None, statistics, saved, *own,
                not case.one_hot)
            name = f"{cell} {norm} {sorted(options)}"
            # of the gradients of sites only those that the call has are defined
            of_sites = layout.site_gradients(grads[7], own[10], NUMBERED[own[0]], case.units)
            of_sites = [t for t in of_sites if t is not None]
            biases = grads[5] if own[7] is not None or cell != "gru" else grads[5][:3 * case.units]
            results[name] = (output, h_n, c_n, statistics, *grads[:5], biases, grads[6], *of_sites)
if sys.argv[1] == "with":
    torch.save(results, sys.argv[2])
else:
    for name, expected in torch.load(sys.argv[2]).items():
        for i, (a, b) in enumerate(zip(results[name], expected, strict=True)):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=lambda m: f"{name}, {i}: {m}")
"""


@needs_kernels
def test_without_kernels_the_reference_is_the_operator(tmp_path: Path) -> None:
    file = str(tmp_path / "numbers.pt")
    for kernels in ("with", "without"):
        in_a_process("-c", WITHOUT, kernels, file)


def test_another_device_takes_the_reference() -> None:
    """The meta device stands for one that no kernel is built for: the choice names it, and shapes come out."""
    call = build(Case("gru", sites=BOTH), requires_grad=False)
    args = [t if t is None else t.to("meta") for t in call.args]
    sites = Sites(*[s and s._replace(gamma=s.gamma and s.gamma.to("meta")) for s in (Site("frame"), None, None, None)])
    output, _, statistics = ops.gru(*args, sites=sites)  # type: ignore[arg-type]
    assert output.is_meta
    assert output.shape == (7, 5, 19)
    assert statistics["input"][0].shape == (7, 57)


# Derivatives that the kernels have not


def lstm_of(call: Call, backend: Any, **changes: Any) -> Callable[..., Tensor]:
    names = ("x", "h0", "c0", "weight_ih", "weight_hh", "bias")
    given = dict(zip(names, call.args, strict=True))

    def function(x: Tensor) -> Tensor:
        return ops.lstm(**{**given, **changes, "x": x}, backend=backend, **call.kwargs)[0]  # type: ignore[arg-type]

    return function


@pytest.fixture(params=[True, False], ids=["trained", "frozen"])
def call(request: pytest.FixtureRequest) -> Call:
    case = Case("lstm", steps=3, batch=3, units=4, sites=(*BOTH, ("cell", "frame")))
    return build(case, requires_grad=request.param)


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own rules use it
def test_jacobians(call: Call, strategy: str, vectorize: bool) -> None:
    if strategy == "forward-mode" and not vectorize:
        with pytest.raises(NotImplementedError, match="vectorize"):
            jacobian(lstm_of(call, "auto"), call.args[0], strategy=strategy)
        return
    x = call.args[0].detach()  # type: ignore[union-attr]
    expected = jacobian(lstm_of(call, "reference"), x)
    found = jacobian(lstm_of(call, "auto"), x, strategy=strategy, vectorize=vectorize)
    assert expected.abs().max() > 0.1  # type: ignore[union-attr]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_transforms(call: Call) -> None:
    x = call.args[0].detach()  # type: ignore[union-attr]
    expected = jacobian(lstm_of(call, "reference"), x)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(lstm_of(call, "auto"))(x), expected, rtol=1e-9, atol=1e-12)
    _, tangent = torch.func.jvp(lstm_of(call, "auto"), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, expected.sum((3, 4, 5)), rtol=1e-9, atol=1e-12)  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_dual_numbers(call: Call) -> None:
    x = call.args[0].detach()  # type: ignore[union-attr]
    expected = jacobian(lstm_of(call, "reference"), x).sum((3, 4, 5))  # type: ignore[union-attr]
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))
            tangent = forward_ad.unpack_dual(lstm_of(call, "auto")(dual)).tangent
            torch.testing.assert_close(tangent, expected, rtol=1e-9, atol=1e-12)
            weight = call.args[4]
            assert weight is not None
            through = lstm_of(call, "auto", weight_hh=forward_ad.make_dual(weight.detach(), weight.detach()))(x)
            assert forward_ad.unpack_dual(through).tangent.abs().max() > 1e-3
            with pytest.raises(ValueError, match=r"backend='cpu' cannot take this call: .*; use backend='auto'"):
                lstm_of(call, "cpu")(dual)
            lstm_of(call, "auto")(x)  # a level without tangents takes nothing away


@needs_kernels
def test_the_bare_operator_refuses_dual_numbers(call: Call) -> None:
    from tests.ops.compiled_kernels import arguments

    own = list(arguments("lstm", Case("lstm", sites=BOTH)))
    with torch.no_grad(), forward_ad.dual_level():
        own[1] = forward_ad.make_dual(own[1].detach(), torch.ones_like(own[1]))
        for keep in (True, False):
            own[-1] = keep
            with pytest.raises(RuntimeError, match="use backend='reference' for jvp"):
                torch.ops.bnrnn.recurrence(*own)


@needs_kernels
@pytest.mark.parametrize("cell", OPS)
def test_several_cotangents_at_once(cell: str) -> None:
    sites = (*BOTH, ("cell", "frame")) if cell == "lstm" else BOTH
    case = Case(cell, sites=sites, lengths=True, batch=9, mask=True, zoneout="mask")
    call = build(case)
    leaves = list(call.leaves.values())
    output, *_ = OPS[cell](*call.args, backend="cpu", **call.kwargs)
    cotangents = torch.randn(3, *output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad(output, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    for i, cotangent in enumerate(cotangents):
        expected = torch.autograd.grad(output, leaves, cotangent, retain_graph=True)
        for name, a, b in zip(call.leaves, found, expected, strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-9, atol=1e-11, msg=name)


def test_an_ensemble(call: Call) -> None:
    weight = call.args[4]
    assert weight is not None
    weights = torch.stack([weight.detach() * scale for scale in (0.5, 1.0, 2.0)])
    x = call.args[0]
    found = torch.func.vmap(lambda w: lstm_of(call, "auto", weight_hh=w)(x))(weights)
    for one, w in zip(found, weights, strict=True):
        torch.testing.assert_close(one, lstm_of(call, "reference", weight_hh=w)(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", OPS)
def test_the_reference_is_twice_differentiable(cell: str) -> None:
    call = build(Case(cell, steps=2, batch=3, units=2, inputs=2, sites=BOTH))
    leaves = tuple(call.leaves.values())

    def function(*_: Tensor) -> Tensor:
        return OPS[cell](*call.args, backend="reference", **call.kwargs)[0].square().sum()

    grads = torch.autograd.grad(function(), leaves, create_graph=True)
    total = sum(g.square().sum() for g in grads)
    assert isinstance(total, Tensor)
    second = torch.autograd.grad(total, leaves)
    step = 1e-6
    weight = call.leaves["weight_hh"]
    with torch.no_grad():
        weight[0, 0] += step
    ahead = sum(g.square().sum() for g in torch.autograd.grad(function(), leaves))
    with torch.no_grad():
        weight[0, 0] -= 2 * step
    behind = sum(g.square().sum() for g in torch.autograd.grad(function(), leaves))
    of_weight = second[list(call.leaves).index("weight_hh")][0, 0]
    torch.testing.assert_close((ahead - behind) / (2 * step), of_weight, rtol=1e-5, atol=1e-6)


# An empty batch


@pytest.mark.parametrize("cell", OPS)
@pytest.mark.parametrize("backend", ["auto", "reference", pytest.param("cpu", marks=needs_kernels)])
def test_an_empty_batch_is_as_torch_has_it(cell: str, backend: Any) -> None:
    call = build(Case(cell, batch=0))
    output, *states, statistics = OPS[cell](*call.args, backend=backend, **call.kwargs)
    torch_layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](3, 19).double()
    expected, _ = torch_layer(call.args[0])
    assert output.shape == expected.shape == (7, 0, 19)
    assert all(s.shape == (0, 19) for s in states)
    assert statistics == {}
    for name, grad in zip(call.leaves, torch.autograd.grad(output.sum(), list(call.leaves.values())), strict=True):
        assert grad.shape == call.leaves[name].shape
        assert not grad.any()


# Their cost

FLOPS = """
import sys, torch
{first}
import bnrnn
assert {early} == ("torch.utils.flop_counter" in sys.modules)
from torch.utils.flop_counter import FlopCounterMode

def count(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()

for name, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    layer = getattr(bnrnn, name)(3, 5, norm="recurrent", backend="cpu")
    x = torch.rand(7, 4, 3, requires_grad=True)
    inputs, hidden = gates * 5 * 3, gates * 5 * 5
    assert count(lambda: layer(x)) == 2 * 28 * (inputs + hidden)
    output, _ = layer(x)
    assert count(lambda: output.sum().backward()) == 2 * 28 * 2 * (inputs + hidden)
    output, _ = layer(x.detach())
    assert count(lambda: output.sum().backward()) == 2 * 28 * (inputs + 2 * hidden)
    assert count(lambda: layer(torch.zeros(7, 4, dtype=torch.long))) == 2 * 28 * hidden
    reference = getattr(bnrnn, name)(3, 5, norm="recurrent", backend="reference")
    assert count(lambda: reference(x)) == 2 * 28 * (inputs + hidden)
"""


@needs_kernels
@pytest.mark.parametrize("first", ["", "import torch.utils.flop_counter"], ids=["after", "before"])
def test_flops(first: str) -> None:
    in_a_process("-c", FLOPS.format(first=first, early=bool(first)))
