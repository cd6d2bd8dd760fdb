"""The simple recurrence's CPU kernel as a registered operator."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from bnrnn.ops import _library
from bnrnn.ops.sites import Sites, Statistics

GATES = 1


def unsupported(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
    sites: Sites,
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
) -> str | None:
    """Why the kernel cannot take this call; None if it can."""
    return _library.unsupported(x, (weight_hh, h0, weight_ih, bias), (recurrent_mask, zoneout_h), sites)


def cpu(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
    sites: Sites,
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
) -> tuple[Tensor, Tensor, Statistics]:
    """See :func:`bnrnn.ops.rnn`. Call it only where :func:`unsupported` has no objection."""
    precision = _library.Precision(weight_hh)
    tensors, layout, eps = precision.sites(sites)
    keep = _library.is_training(x, h0, weight_ih, weight_hh, bias, *tensors)
    operand, w_ih, w_hh = precision.operands(x, weight_ih, weight_hh)
    output, h_n, statistics, _ = torch.ops.bnrnn.rnn(
        operand, *precision.others(h0), w_ih, w_hh, *precision.others(bias), nonlinearity == "relu", tensors, layout,
        eps, batch_sizes, *precision.others(recurrent_mask, zoneout_h), precision.bfloat16, keep,
    )  # fmt: skip
    taken = _library.read_statistics(statistics, layout, GATES, x.shape[0], weight_hh.shape[1])
    return output.to(precision.product), h_n.to(h0.dtype), taken


def _fake(
    x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, relu: bool,
    site_tensors: list[Tensor], site_layout: list[int], eps: list[float], batch_sizes: Tensor | None,
    recurrent_mask: Tensor | None, zoneout_h: Tensor | None, bfloat16: bool, keep: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    shape = _library.Shape(x, weight_ih, weight_hh, GATES)
    return (*shape.states(1), *shape.kept(site_layout, recurrent_mask, zoneout_h, bfloat16, keep))


def _fake_backward(
    grad_output: Tensor | None, grad_h_n: Tensor | None, statistics: Tensor, saved: Tensor, x: Tensor,
    weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, relu: bool, site_tensors: list[Tensor],
    site_layout: list[int], eps: list[float], batch_sizes: Tensor | None, recurrent_mask: Tensor | None,
    zoneout_h: Tensor | None, bfloat16: bool, need_x: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return _library.Shape(x, weight_ih, weight_hh, GATES).gradients(1, need_x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, weight_ih, weight_hh, bias, relu, site_tensors, layout, eps, *masks, bfloat16, _ = inputs
    _, _, statistics, saved = output
    ctx.mark_non_differentiable(statistics, saved)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(statistics, saved, x, weight_ih, weight_hh, bias, *masks, *site_tensors)
    ctx.relu, ctx.layout, ctx.eps, ctx.bfloat16 = relu, layout, eps, bfloat16


def _backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None, *_: Any) -> Any:
    statistics, saved, x, weight_ih, weight_hh, bias, *rest = ctx.saved_tensors
    masks, site_tensors = rest[:3], rest[3:]
    need_x = ctx.needs_input_grad[0]
    grad_x, grad_h0, grad_ih, grad_hh, grad_bias, grad_sites = torch.ops.bnrnn.rnn_backward(
        grad_output, grad_h_n, statistics, saved, x, weight_ih, weight_hh, bias, ctx.relu, site_tensors, ctx.layout,
        ctx.eps, *masks, ctx.bfloat16, need_x,
    )  # fmt: skip
    return (
        grad_x if need_x else None,
        grad_h0,
        grad_ih,
        grad_hh,
        None if bias is None else grad_bias,
        None,
        _library.site_gradients(grad_sites, ctx.layout, GATES, weight_hh.shape[1]),
    )


@_library.on_load
def _register() -> None:
    _library.register("rnn", _fake, _fake_backward, _setup_context, _backward)
