"""The LSTM's CPU kernel as a registered operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnrnn.ops import _library
from bnrnn.ops.sites import Sites, Statistics

GATES = 4


def unsupported(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    weight_hr: Tensor | None = None,
    *,
    sites: Sites,
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
    zoneout_c: Tensor | None = None,
) -> str | None:
    """Why the kernel cannot take this call; None if it can."""
    if weight_hr is not None:
        return "a projection (proj_size)"
    return _library.unsupported(x, (weight_hh, h0, c0, weight_ih, bias), (recurrent_mask, zoneout_h, zoneout_c), sites)


def cpu(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    weight_hr: Tensor | None = None,
    *,
    sites: Sites,
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
    zoneout_c: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Statistics]:
    """See :func:`bnrnn.ops.lstm`. Call it only where :func:`unsupported` has no objection."""
    precision = _library.Precision(weight_hh)
    tensors, layout, eps = precision.sites(sites)
    keep = _library.is_training(x, h0, c0, weight_ih, weight_hh, bias, *tensors)
    operand, w_ih, w_hh = precision.operands(x, weight_ih, weight_hh)
    output, h_n, c_n, statistics, _ = torch.ops.bnrnn.lstm(
        operand, *precision.others(h0, c0), w_ih, w_hh, *precision.others(bias), tensors, layout, eps, batch_sizes,
        *precision.others(recurrent_mask, zoneout_h, zoneout_c), precision.bfloat16, keep,
    )  # fmt: skip
    taken = _library.read_statistics(statistics, layout, GATES, x.shape[0], weight_hh.shape[1])
    return output.to(precision.product), h_n.to(h0.dtype), c_n.to(c0.dtype), taken


def _fake(
    x: Tensor, h0: Tensor, c0: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None,
    site_tensors: list[Tensor], site_layout: list[int], eps: list[float], batch_sizes: Tensor | None,
    recurrent_mask: Tensor | None, zoneout_h: Tensor | None, zoneout_c: Tensor | None, bfloat16: bool, keep: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    shape = _library.Shape(x, weight_ih, weight_hh, GATES, has_cell=True)
    return (*shape.states(2), *shape.kept(site_layout, recurrent_mask, zoneout_h, bfloat16, keep))


def _fake_backward(
    grad_output: Tensor | None, grad_h_n: Tensor | None, grad_c_n: Tensor | None, statistics: Tensor, saved: Tensor,
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, site_tensors: list[Tensor],
    site_layout: list[int], eps: list[float], batch_sizes: Tensor | None, recurrent_mask: Tensor | None,
    zoneout_h: Tensor | None, zoneout_c: Tensor | None, bfloat16: bool, need_x: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return _library.Shape(x, weight_ih, weight_hh, GATES).gradients(2, need_x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, weight_ih, weight_hh, bias, site_tensors, layout, eps, *masks, bfloat16, _ = inputs
    _, _, _, statistics, saved = output
    ctx.mark_non_differentiable(statistics, saved)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(statistics, saved, x, weight_ih, weight_hh, bias, *masks, *site_tensors)
    ctx.layout, ctx.eps, ctx.bfloat16 = layout, eps, bfloat16


def _backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None, grad_c_n: Tensor | None, *_: Any) -> Any:
    statistics, saved, x, weight_ih, weight_hh, bias, *rest = ctx.saved_tensors
    masks, site_tensors = rest[:4], rest[4:]
    need_x = ctx.needs_input_grad[0]
    grad_x, grad_h0, grad_c0, grad_ih, grad_hh, grad_bias, grad_sites = torch.ops.bnrnn.lstm_backward(
        grad_output, grad_h_n, grad_c_n, statistics, saved, x, weight_ih, weight_hh, bias, site_tensors, ctx.layout,
        ctx.eps, *masks, ctx.bfloat16, need_x,
    )  # fmt: skip
    sites = _library.site_gradients(grad_sites, ctx.layout, GATES, weight_hh.shape[1])
    return (
        grad_x if need_x else None,
        grad_h0,
        grad_c0,
        grad_ih,
        grad_hh,
        None if bias is None else grad_bias,
        sites,
    )


@_library.on_load
def _register() -> None:
    _library.register("lstm", _fake, _fake_backward, _setup_context, _backward)
