"""What else one does with gradients: twice, in eval, over two calls, through functions of parameters."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import jacobian
from torch.func import functional_call

from bnrnn import batch_statistics
from build import CLASSES, call, close, make, norms_of, states, tables, tensor

CELLS = ["LSTM", "GRU", "RNN"]
NORMS = ["recurrent", "sequence-input", "summed", "layer"]


def weighted(output: Tensor, final: tuple[Tensor, ...]) -> Tensor:
    return sum((r * tensor(*r.shape, seed=k)).sum() for k, r in enumerate((output, *final)))


def parameter_gradients(layer: Any, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(layer.parameters())))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["none", *NORMS])
@pytest.mark.parametrize("training", [True, False])
def test_gradgradcheck_of_the_reference(cell: str, norm: str, training: bool) -> None:
    """Differentiable twice, with lengths, through every argument."""
    layer = make(cell, 2, 2, norm=norms_of(cell)[norm], backend="reference", statistics=2).train(training)
    names = [n for n, _ in layer.named_parameters()]
    buffers = {n: b for n, b in layer.named_buffers() if not training}

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        count = len(layer._state_sizes)
        hx, parameters = rest[:count], rest[count:]
        options = {"lengths": [3, 3, 2]}
        arguments = (x, tuple(hx) if count == 2 else hx[0])
        with batch_statistics(layer.train(training)) if training else torch.enable_grad():
            output, final = functional_call(
                layer, {**dict(zip(names, parameters, strict=True)), **buffers}, arguments, options
            )
        return output, *(final if isinstance(final, tuple) else (final,))

    inputs = [tensor(3, 3, 2), *states(layer, 3), *(p.detach().clone() for p in layer.parameters())]
    inputs = [i.requires_grad_() for i in inputs]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", NORMS)
def test_two_forwards_before_one_backward(cell: str, norm: str) -> None:
    """Training, evaluation and training once more, while tables grow and change: gradients are those of each alone."""
    alone = []
    for keep in ([0], [1], [2], [0, 1, 2]):
        layer = make(cell, 3, 4, 2, norm=norm, statistics=2)
        losses = []
        for k, (steps, training) in enumerate(((3, True), (2, False), (5, True))):
            losses.append(weighted(*call(layer.train(training), tensor(steps, 4, 3, seed=k))))
        alone.append(parameter_gradients(layer, sum(losses[k] for k in keep)))
    for first, second, third, together in zip(*alone, strict=True):
        close(together, first + second + third)


@pytest.mark.parametrize("cell", CELLS)
def test_eval_gradients_ignore_other_rows(cell: str) -> None:
    """In eval a row's gradient depends on that row alone; in training it depends on all."""
    layer = make(cell, 3, 4, norm="recurrent", statistics=4)
    for training in (False, True):
        layer.train(training)
        x = tensor(4, 5, 3).requires_grad_()
        output, _ = call(layer, x)
        (gradient,) = torch.autograd.grad((output[:, 2] * tensor(4, 4)).sum(), x)
        others = gradient[:, [0, 1, 3, 4]]
        assert (others.abs().max() > 1e-6) == training
        assert gradient[:, 2].abs().max() > 1e-6


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, *NORMS])
def test_functional_call(cell: str, norm: str | None) -> None:
    """Other parameters and buffers for one call; the layer's own stay."""
    layer, other = (make(cell, 3, 4, 2, norm=norm, statistics=3, seed=s).eval() for s in (0, 1))
    x = tensor(5, 4, 3)
    before = {n: v.clone() for n, v in layer.state_dict().items()}
    output = functional_call(layer, dict(other.state_dict()), (x,))[0]
    close(output, call(other, x)[0], 0)
    for name, value in layer.state_dict().items():
        close(value, before[name], 0)


@pytest.mark.parametrize("norm", ["recurrent", "layer"])
def test_torch_func_grad(norm: str) -> None:
    layer = make("LSTM", 3, 4, norm=norm, statistics=3, backend="reference").eval()
    parameters = {n: p.detach() for n, p in layer.named_parameters()}
    x = tensor(4, 3, 3)

    def loss(values: dict[str, Tensor]) -> Tensor:
        output, final = functional_call(layer, values, (x,))
        return weighted(output, final)

    gradients = torch.func.grad(loss)(parameters)
    expected = parameter_gradients(layer, weighted(*call(layer, x)))
    for actual, value in zip(gradients.values(), expected, strict=True):
        close(actual, value)


def graph(value: Tensor) -> Counter[str]:
    """How many nodes of each kind the backward pass will visit."""
    seen, todo, kinds = set(), [value.grad_fn], Counter()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kinds[node.name()] += 1
        todo.extend(parent for parent, _ in node.next_functions)
    return kinds


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["none", *NORMS])
@pytest.mark.parametrize("training", [True, False])
def test_the_backward_pass_is_linear_in_the_steps(cell: str, norm: str, training: bool) -> None:
    """Nodes grow by the same number for each step, and none indexes the whole input, which would make each cost T."""
    layer = make(cell, 3, 4, norm=norms_of(cell)[norm], statistics=4, backend="reference", zoneout=0.1).train(training)
    counts = [graph(call(layer, tensor(steps, 5, 3).requires_grad_())[0]) for steps in (10, 20, 40)]
    totals = [sum(c.values()) for c in counts]
    assert totals[2] - totals[1] == 2 * (totals[1] - totals[0]) > 0
    for kind in counts[2]:
        if any(word in kind for word in ("Select", "Index", "Slice")):
            assert counts[2][kind] == counts[0][kind], kind
    assert counts[2]["UnbindBackward0"] <= 3


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_and_states_may_need_no_gradient(cell: str) -> None:
    layer = make(cell, 3, 4, norm="recurrent").requires_grad_(False)
    x = tensor(4, 5, 3).requires_grad_()
    output, _ = call(layer, x)
    (actual,) = torch.autograd.grad((output * tensor(4, 5, 4)).sum(), x)
    layer.requires_grad_(True)
    y = x.detach().requires_grad_()
    (expected,) = torch.autograd.grad((call(layer, y)[0] * tensor(4, 5, 4)).sum(), y)
    close(actual, expected)
    layer.requires_grad_(False)
    assert not call(layer, tensor(4, 5, 3))[0].requires_grad


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("frozen", ["weight_hh_l0", "norm_l0.recurrent.gamma", "bias_ih_l0"])
def test_a_frozen_parameter_changes_no_other_gradient(cell: str, frozen: str) -> None:
    layer = make(cell, 3, 4, norm="recurrent")
    everything = dict(
        zip(
            dict(layer.named_parameters()),
            parameter_gradients(layer, weighted(*call(layer, tensor(4, 5, 3)))),
            strict=True,
        )
    )
    layer.get_parameter(frozen).requires_grad_(False)
    weighted(*call(layer, tensor(4, 5, 3))).backward()
    for name, parameter in layer.named_parameters():
        if name == frozen:
            assert parameter.grad is None
        else:
            close(parameter.grad, everything[name])


@pytest.mark.parametrize("cell", CELLS)
def test_training_on_a_task_lowers_the_loss(cell: str) -> None:
    """A smoke test of all parts together: recall the first input's sign after ten steps."""
    torch.manual_seed(0)
    layer, read = CLASSES[cell](1, 12, norm="recurrent"), torch.nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *read.parameters()], 0.02)
    losses = []
    for _ in range(60):
        x = torch.randn(10, 64, 1)
        logits = read(call(layer, x, tuple(0.1 * torch.randn(1, 64, 12) for _ in layer._state_sizes))[0][-1])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, (x[0] > 0).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert tables(layer)["norm_l0.recurrent"]["count"].tolist() == [60] * 10


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent"])
def test_parametrized_weights(cell: str, norm: str | None) -> None:
    """A weight may be computed from others, as torch.nn.utils.parametrizations do."""
    layer = make(cell, 3, 4, norm=norm)
    expected, _ = call(layer, tensor(4, 5, 3))
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    output, _ = call(layer, tensor(4, 5, 3))
    close(output, expected)
    (output * tensor(4, 5, 4)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in layer.parametrizations["weight_hh_l0"].parameters())


def product_with_jacobian(run: Any, x: Tensor, tangent: Tensor) -> Tensor:
    """By central differences of float64 numbers."""
    step = 1e-6
    with torch.no_grad():
        return (run(x + step * tangent) - run(x - step * tangent)) / (2 * step)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # met inside of torch's forward mode
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, *NORMS])
@pytest.mark.parametrize("how", ["plain", "frozen", "no_grad"])
def test_forward_mode(cell: str, norm: str | None, how: str) -> None:
    """Tangents of the input and of a weight go through, also where nothing asks for a gradient."""
    layer = make(cell, 3, 9, 2, norm=norm, statistics=3, bidirectional=True).eval()
    layer.requires_grad_(how == "plain")
    x, tangent = tensor(5, 4, 3), tensor(5, 4, 3, seed=1)
    for context in (torch.enable_grad(), batch_statistics(layer)):
        with context, torch.no_grad() if how == "no_grad" else torch.enable_grad():
            expected = product_with_jacobian(lambda z: call(layer, z)[0], x, tangent)
            with forward_ad.dual_level():
                output, _ = call(layer, forward_ad.make_dual(x, tangent))
                found = forward_ad.unpack_dual(output).tangent
    assert found is not None
    close(found, expected, 1e-6)
    weight = layer.weight_hh_l1.detach()
    tangent = tensor(*weight.shape, seed=2)

    def with_weight(value: Tensor) -> Tensor:
        return functional_call(layer, {"weight_hh_l1": value}, (x,))[0]

    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(with_weight(forward_ad.make_dual(weight, tangent))).tangent
    close(found, product_with_jacobian(with_weight, weight, tangent), 1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent", "layer"])
def test_jacobians_of_every_strategy(cell: str, norm: str | None) -> None:
    layer = make(cell, 2, 9, norm=norm, statistics=3).eval().requires_grad_(False)
    x = tensor(3, 2, 2)

    def run(z: Tensor) -> Tensor:
        return call(layer, z)[0]

    expected = jacobian(run, x)
    close(jacobian(run, x, vectorize=True), expected)
    close(jacobian(run, x, vectorize=True, strategy="forward-mode"), expected)
    close(torch.func.jacrev(run)(x), expected)
    close(torch.func.jacfwd(run)(x), expected)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, *NORMS])
@pytest.mark.parametrize("training", [True, False])
def test_batched_gradients(cell: str, norm: str | None, training: bool) -> None:
    layer = make(cell, 3, 9, 2, norm=norm, statistics=3).train(training)
    x = tensor(5, 4, 3).requires_grad_()
    output, _ = call(layer, x, lengths=[5, 3, 5, 4])
    cotangents = tensor(3, *output.shape, seed=1)
    leaves = [x, *layer.parameters()]
    batched = torch.autograd.grad(output, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    for k in range(3):
        alone = torch.autograd.grad(output, leaves, cotangents[k], retain_graph=True)
        for found, expected in zip(batched, alone, strict=True):
            close(found[k], expected)
