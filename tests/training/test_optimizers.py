"""The optimisers against their equations by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnrnn.training import Adam, RMSProp, clip_gradients


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def set_gradient(p: nn.Parameter, *values: float) -> None:
    p.grad = torch.tensor(values, dtype=torch.float64)


def test_rmsprop_follows_its_equation_over_three_steps() -> None:
    p = parameter(1.0, -2.0)
    optimizer = RMSProp([p], lr=0.1, rho=0.8)
    values, squares = [1.0, -2.0], [0.0, 0.0]
    for gradient in ((0.5, -3.0), (-0.25, 0.0), (2.0, 1e-7)):
        set_gradient(p, *gradient)
        optimizer.step()
        for i, g in enumerate(gradient):
            squares[i] = 0.8 * squares[i] + 0.2 * g * g
            values[i] -= 0.1 * g / max(math.sqrt(squares[i]), 1e-5)
    torch.testing.assert_close(p.detach(), torch.tensor(values, dtype=torch.float64))


def test_rmsprop_divides_by_the_floor_where_the_root_is_smaller() -> None:
    p = parameter(0.0)
    set_gradient(p, 1e-8)
    RMSProp([p], lr=1.0, rho=0.9).step()
    # the root is 3.2e-9; adding 1e-5 to it, as torch.optim.RMSprop does, would give another number
    assert p.item() == pytest.approx(-1e-8 / 1e-5, rel=1e-12)


def test_rmsprop_has_no_momentum() -> None:
    p = parameter(1.0)
    optimizer = RMSProp([p], lr=0.1, rho=0.5)
    set_gradient(p, 1.0)
    optimizer.step()
    after = p.item()
    set_gradient(p, 0.0)
    optimizer.step()
    assert p.item() == after


def test_adam_follows_blocks_equation_over_three_steps() -> None:
    p = parameter(0.3)
    optimizer = Adam([p], lr=0.002)
    value = 0.3
    m = v = 0.0
    for t, g in enumerate((0.5, -1.5, 1e-6), start=1):
        set_gradient(p, g)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        value -= 0.002 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-8)
    assert p.item() == pytest.approx(value, rel=1e-12)


def test_adam_differs_from_torch_only_by_where_epsilon_stands() -> None:
    ours, theirs = parameter(1.0), parameter(1.0)
    optimizers = Adam([ours], lr=0.01, eps=1e-3), torch.optim.Adam([theirs], lr=0.01, eps=1e-3 / math.sqrt(0.001))
    for p, optimizer in zip((ours, theirs), optimizers, strict=True):
        set_gradient(p, 0.7)
        optimizer.step()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


def test_parameters_without_a_gradient_stay() -> None:
    used, unused = parameter(1.0), parameter(5.0)
    for kind in (RMSProp, Adam):
        optimizer = kind([used, unused], lr=0.1)
        set_gradient(used, 1.0)
        optimizer.step()
        assert unused.item() == 5.0
        assert unused not in optimizer.state


def test_clipping_scales_by_the_global_norm() -> None:
    a, b = parameter(0.0, 0.0), parameter(0.0)
    set_gradient(a, 3.0, 0.0)
    set_gradient(b, 4.0)
    norm = clip_gradients([a, b, parameter(1.0)], 1.0)
    assert norm.item() == pytest.approx(5.0)
    assert a.grad is not None
    assert b.grad is not None
    torch.testing.assert_close(a.grad, torch.tensor([0.6, 0.0], dtype=torch.float64))
    torch.testing.assert_close(b.grad, torch.tensor([0.8], dtype=torch.float64))


@pytest.mark.parametrize("limit", [5.0, 7.0, None])
def test_clipping_leaves_gradients_within_the_limit(limit: float | None) -> None:
    p = parameter(0.0, 0.0)
    set_gradient(p, 3.0, -4.0)
    clip_gradients([p], limit)
    assert p.grad is not None
    assert p.grad.tolist() == [3.0, -4.0]


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (RMSProp, {"lr": 0.0}, "lr"),
        (RMSProp, {"rho": 1.0}, "rho"),
        (RMSProp, {"floor": 0.0}, "floor"),
        (Adam, {"lr": -1.0}, "lr"),
        (Adam, {"betas": (0.9, 1.0)}, "betas"),
        (Adam, {"eps": 0.0}, "eps"),
    ],
)
def test_bad_rates_are_named(kind: type, options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word} must be"):
        kind([parameter(1.0)], **options)


@pytest.mark.parametrize(("size", "left"), [(99.0, 99.0), (100.0, 100.0), (121.0, 110.0), (10_000.0, 1000.0)])
def test_the_released_rule_acts_above_the_square_of_the_limit(size: float, left: float) -> None:
    a, b = parameter(1.0), parameter(2.0)
    set_gradient(a, 0.6 * size)
    set_gradient(b, -0.8 * size)
    norm = clip_gradients([a, b], 10.0, "released")
    assert norm.item() == pytest.approx(size)
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.tolist() == pytest.approx([0.6 * left])
    assert b.grad.tolist() == pytest.approx([-0.8 * left])
