"""Gradients of the recurrence operator: its kernels' backward pass, or the reference's where these do not reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from bnrnn.ops import layout
from bnrnn.ops.cells import NUMBERED, Cell
from bnrnn.ops.record import Recurrence
from bnrnn.ops.references import REFERENCES


def is_training(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def has_tangents(*tensors: Tensor | None) -> bool:
    """Whether forward-mode differentiation goes through these tensors."""
    if forward_ad._current_level < 0:
        return False
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)


def record(
    number: int, x: Tensor, h0: Tensor, c0: Tensor | None, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None,
    bias_hn: Tensor | None, weight_hr: Tensor | None, site_tensors: Sequence[Tensor], site_layout: Sequence[int],
    eps: Sequence[float], batch_sizes: Tensor | None, recurrent_mask: Tensor | None, zoneout_h: Tensor | None,
    zoneout_c: Tensor | None, bfloat16: bool,
) -> tuple[Cell, Recurrence]:  # fmt: skip
    """The operator's arguments as the reference takes them."""
    if bfloat16:
        x = x.bfloat16() if x.is_floating_point() else x
        weight_ih, weight_hh = weight_ih.bfloat16(), weight_hh.bfloat16()
        weight_hr = None if weight_hr is None else weight_hr.bfloat16()
    cell = NUMBERED[number]
    state = (h0,) if c0 is None else (h0, c0)
    sites = layout.unflatten(site_tensors, site_layout, eps)
    zoneout = (zoneout_h, zoneout_c)[: cell.states]
    return cell, Recurrence(
        x, state, weight_ih, weight_hh, bias, bias_hn, weight_hr, sites, batch_sizes, recurrent_mask, zoneout
    )


@contextmanager
def _recording() -> Iterator[None]:
    """Gradients may be recorded, also below autograd, where an operator's implementation is."""
    of = torch._C.DispatchKey
    keys = (of.AutogradFunctionality, of.AutogradOther, of.AutogradNestedTensor, of.ADInplaceOrView)
    excluded = [key for key in keys if torch._C._dispatch_tls_is_dispatch_key_excluded(key)]
    for key in excluded:
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for key in excluded:
            torch._C._dispatch_tls_set_dispatch_key_excluded(key, True)


def reference_backward(
    grads: Sequence[Tensor | None], arguments: Sequence[Any], wanted: Sequence[bool] | None = None
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """The reference's gradients of the first arguments up to the sites' tensors, and of these; None where unused.

    Args:
        grads: of output, h_n and c_n.
        arguments: those of the operator, without ``keep``.
        wanted: for each of the gradients whether to compute it; None for all.
    """
    number, *first = arguments[:9]
    site_tensors = arguments[9]
    given = [t if t is None else t.detach() for t in (*first, *site_tensors)]
    needs = [True] * len(given) if wanted is None else wanted
    with _recording():
        leaves = [
            t.requires_grad_() if t is not None and t.is_floating_point() and need else t
            for t, need in zip(given, needs, strict=True)
        ]
        cell, call = record(number, *leaves[:8], leaves[8:], *arguments[10:])  # type: ignore[arg-type]
        output, state, _ = REFERENCES[cell.name](call)
        pairs = [(r, g) for r, g in zip((output, *state), grads, strict=False) if g is not None and r.requires_grad]
        trained = [t for t in leaves if t is not None and t.requires_grad]
        found: Iterator[Tensor | None] = iter([])
        if pairs and trained:
            results, cotangents = zip(*pairs, strict=True)
            cotangents = tuple(g.to(r.dtype) for r, g in zip(results, cotangents, strict=True))
            found = iter(torch.autograd.grad(results, trained, cotangents, allow_unused=True))
    gradients = [next(found, None) if t is not None and t.requires_grad else None for t in leaves]
    return gradients[:8], gradients[8:]


def _is_batched(grads: Sequence[Tensor | None]) -> bool:
    """Whether several cotangents come at once, as for ``is_grads_batched`` and a vectorized ``jacobian``."""
    of: Any = torch._C._functorch  # type: ignore[attr-defined]
    return any(g is not None and (of.is_legacy_batchedtensor(g) or of.is_batchedtensor(g)) for g in grads)


def _below(operator: Any, keyset: Any, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)


def once_differentiable(backward: Any) -> Callable[..., tuple[Tensor, ...]]:
    """The backward operator's implementation for autograd: a gradient of its gradients is an error."""

    class Gradients(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            keyset, arguments = inputs[-1]
            return _below(backward, keyset, arguments)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            raise RuntimeError(
                "the kernels cannot be differentiated twice; use backend='reference' for gradients of gradients"
            )

    def run(keyset: Any, *arguments: Any) -> tuple[Tensor, ...]:
        if not torch.is_grad_enabled():
            return _below(backward, keyset, arguments)
        tensors = [t for a in arguments for t in (a if isinstance(a, list) else (a,)) if isinstance(t, Tensor)]
        return Gradients.apply(*tensors, (keyset, arguments))

    return run


def differentiable(forward_operator: Any, backward_operator: Any) -> Callable[..., tuple[Tensor, ...]]:
    """The recurrence operator's implementation for autograd, of the operators for its passes.

    It is what :func:`torch.library.register_autograd` would make, at a third of its cost: its generic treatment of
    lists of tensors and of defaults took longer than a short call's arithmetic.
    """

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            keyset, arguments = inputs[-1]
            results = _below(forward_operator, keyset, arguments)
            _, _, _, statistics, saved = results
            number, *first, sites, site_layout, eps, batch_sizes, mask, zoneout_h, zoneout_c, bfloat16, _ = arguments
            ctx.mark_non_differentiable(statistics, saved)
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(statistics, saved, *first, batch_sizes, mask, zoneout_h, zoneout_c, *sites)
            ctx.numbers = number, site_layout, eps, bfloat16
            return results

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            statistics, saved, *rest = ctx.saved_tensors
            first, masks, sites = rest[:8], rest[8:12], rest[12:]
            number, site_layout, eps, bfloat16 = ctx.numbers
            arguments = (number, *first, sites, site_layout, eps, *masks, bfloat16)
            needs = ctx.needs_input_grad
            if _is_batched(grads):
                gradients, of_sites = reference_backward(grads[:3], arguments, needs[1:-1])
                return None, *gradients, *of_sites, None
            cell, (_, _, c0, _, weight_hh, bias, bias_hn, weight_hr) = NUMBERED[number], first
            units = weight_hh.shape[0] // cell.gates
            grad_x, grad_h0, grad_c0, grad_ih, grad_hh, grad_biases, grad_hr, grad_sites = backward_operator(
                *grads[:3], statistics, saved, *arguments, needs[1]
            )
            grad_bias, grad_hn = grad_biases, None
            if bias_hn is not None:
                grad_bias, grad_hn = grad_biases.split([cell.gates * units, units])
            elif cell.has_reset:
                grad_bias = grad_biases[: cell.gates * units]
            return (
                None,
                grad_x if needs[1] else None,
                grad_h0,
                None if c0 is None else grad_c0,
                grad_ih,
                grad_hh,
                None if bias is None else grad_bias,
                grad_hn,
                None if weight_hr is None else grad_hr,
                *layout.site_gradients(grad_sites, site_layout, cell, units),
                None,
            )

    def run(keyset: Any, *arguments: Any) -> tuple[Tensor, ...]:
        if forward_ad._current_level >= 0 and has_tangents(*arguments[1:9], *arguments[9], *arguments[13:16]):
            raise RuntimeError(
                "bnrnn::recurrence has no forward-mode derivative; use backend='reference' for jvp and for jacobians "
                "with strategy='forward-mode'"
            )
        if not arguments[-1]:  # keep: no backward pass will follow
            return _below(forward_operator, keyset, arguments)
        # Autograd finds tensors among arguments, but not inside of lists.
        return Differentiated.apply(*arguments[:9], *arguments[9], (keyset, arguments))

    return run
