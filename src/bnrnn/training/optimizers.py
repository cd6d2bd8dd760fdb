"""The optimisers of the papers, as the Blocks framework defines them, and gradient clipping."""

# torch documents its foreach functions without exporting them
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

ClipRule = Literal["norm", "released"]


class RMSProp(Optimizer):
    r"""RMSProp without momentum (Blocks; the "0.9 momentum" of Cooijmans et al. 2017 is its decay rate).

    .. math::
        v \leftarrow \rho v + (1 - \rho) g^2, \qquad
        \theta \leftarrow \theta - \mathrm{lr} \cdot g / \max(\sqrt{v}, \mathrm{floor})

    :class:`torch.optim.RMSprop` adds its epsilon to the root instead of taking the larger of both.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        rho: decay rate of the mean square, in [0, 1).
        floor: least divisor.

    Raises:
        ValueError: a rate is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        rho: float = 0.9,
        floor: float = 1e-5,
    ) -> None:
        _check("lr", lr, lr > 0, "greater than 0")
        _check("rho", rho, 0 <= rho < 1, "in [0, 1)")
        _check("floor", floor, floor > 0, "greater than 0")
        super().__init__(params, {"lr": lr, "rho": rho, "floor": floor})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            parameters, gradients, (squares,) = _collect(self, group, "square")
            if not parameters:
                continue
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["rho"])
            divisors = torch._foreach_sqrt(squares)
            torch._foreach_clamp_min_(divisors, group["floor"])
            torch._foreach_addcdiv_(parameters, gradients, divisors, -group["lr"])


class Adam(Optimizer):
    r"""Adam as Blocks has it: the bias correction scales the step, so epsilon stands beside the raw root.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        \theta \leftarrow \theta - \mathrm{lr} \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        \cdot \frac{m}{\sqrt{v} + \epsilon}

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the two moments, in [0, 1).
        eps: added to the root.

    Raises:
        ValueError: a rate is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        _check("lr", lr, lr > 0, "greater than 0")
        _check("betas", betas, all(0 <= beta < 1 for beta in betas), "in [0, 1)")
        _check("eps", eps, eps > 0, "greater than 0")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            parameters, gradients, (means, squares) = _collect(self, group, "mean", "square")
            if not parameters:
                continue
            steps = [self.state[p].setdefault("step", torch.zeros(())) for p in parameters]
            torch._foreach_add_(steps, 1)
            beta1, beta2 = group["betas"]
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
            divisors = torch._foreach_sqrt(squares)
            torch._foreach_add_(divisors, group["eps"])
            counts = [step.item() for step in steps]
            rates = [-group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t) for t in counts]
            torch._foreach_addcdiv_(parameters, means, divisors, rates)


def clip_gradients(parameters: Iterable[Tensor], limit: float | None, rule: ClipRule = "norm") -> Tensor:
    r"""Scales all gradients together where their norm, the global L2 norm over all of them, is too large.

    ``"norm"`` scales by :math:`\min(1, \mathrm{limit} / \mathrm{norm})`. ``"released"`` is what the released code of
    the Attentive Reader does (Cooijmans et al. 2017, 5.4), which takes the norm for its square: above
    :math:`\mathrm{limit}^2` it scales by :math:`\mathrm{limit} / \sqrt{\mathrm{norm}}`, below it does nothing.

    Args:
        parameters: those without a gradient count as zero.
        limit: None to leave the gradients as they are.
        rule: see above.

    Returns:
        The norm before clipping, a scalar tensor.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if limit is not None and rule == "norm":
        torch._foreach_mul_(gradients, torch.clamp(limit / norm, max=1.0))
    elif limit is not None:
        torch._foreach_mul_(gradients, torch.where(norm > limit**2, limit / norm.sqrt(), 1.0))
    return norm


def _collect(
    optimizer: Optimizer, group: dict[str, Any], *slots: str
) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]]]:
    """Parameters that have a gradient, the gradients, and each slot's tensors, zeros where new."""
    parameters = [p for p in group["params"] if p.grad is not None]
    gradients = [p.grad for p in parameters]
    for parameter in parameters:
        state = optimizer.state[parameter]
        for slot in slots:
            if slot not in state:
                state[slot] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return parameters, gradients, [[optimizer.state[p][slot] for p in parameters] for slot in slots]


def _check(name: str, value: object, valid: bool, allowed: str) -> None:
    if not valid:
        raise ValueError(f"{name} must be {allowed}, got {value}")
