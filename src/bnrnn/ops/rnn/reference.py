"""The simple (Elman) recurrence with normalization, in plain PyTorch: the definition."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from bnrnn.ops.normalize import StepNormalizer, normalize_input
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.scan import State, accumulation_dtype, input_product, recurrent_product, scan, zoneout
from bnrnn.ops.sites import collect, common_steps


def rnn(call: Recurrence, nonlinearity: Literal["tanh", "relu"]) -> Result:
    r"""See :func:`bnrnn.ops.rnn`."""
    x, (h0,), weight_ih, weight_hh, bias, _, _, sites, batch_sizes, recurrent_mask, _ = call
    wx = input_product(x, weight_ih)
    dtype, acc = wx.dtype, accumulation_dtype(wx.dtype)
    wx, input_statistics = normalize_input(wx.to(acc), sites.input, batch_sizes)
    recurrent, summed = StepNormalizer(sites.recurrent), StepNormalizer(sites.summed)

    def step(t: int, b: Tensor, state: State) -> State:
        (h,) = state
        a = recurrent(recurrent_product(h, recurrent_mask, weight_hh), t)
        pre = summed(a + b, t)
        if bias is not None:
            pre = pre + bias
        return (zoneout(call.zoneout_h, t, h, pre.tanh() if nonlinearity == "tanh" else pre.relu()),)

    output, (h,) = scan(step, wx, (h0.to(acc),), batch_sizes, common_steps(sites))
    statistics = collect(
        input=input_statistics,
        recurrent=recurrent.statistics(len(wx)),
        summed=summed.statistics(len(wx)),
    )
    return output.to(dtype), (h.to(h0.dtype),), statistics
