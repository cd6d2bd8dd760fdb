"""The GRU recurrence with normalization, in plain PyTorch: the definition."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn.ops.normalize import StepNormalizer, normalize_input
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.scan import State, accumulation_dtype, input_product, recurrent_product, scan, zoneout
from bnrnn.ops.sites import collect, common_steps, split


def gru(call: Recurrence) -> Result:
    r"""See :func:`bnrnn.ops.gru`."""
    x, (h0,), weight_ih, weight_hh, bias, bias_hn, _, sites, batch_sizes, recurrent_mask, _ = call
    hidden = h0.shape[1]
    sizes = (2 * hidden, hidden)  # the two gates, and the candidate whose recurrent part the reset gate scales
    wx = input_product(x, weight_ih)
    dtype, acc = wx.dtype, accumulation_dtype(wx.dtype)
    wx, input_statistics = normalize_input(wx.to(acc), sites.input, batch_sizes, sizes)
    recurrent = StepNormalizer(sites.recurrent, sizes)
    summed_rz, summed_n = (StepNormalizer(s) for s in split(sites.summed, sizes))
    bias_rz, bias_n = (None, None) if bias is None else bias.split(sizes)

    def plus(value: Tensor, offset: Tensor | None) -> Tensor:
        return value if offset is None else value + offset

    def step(t: int, b: Tensor, state: State) -> State:
        (h,) = state
        b_rz, b_n = b.split(sizes, 1)
        a_rz, a_n = recurrent(recurrent_product(h, recurrent_mask, weight_hh), t).split(sizes, 1)
        r, z = plus(summed_rz(a_rz + b_rz, t), bias_rz).sigmoid().chunk(2, 1)
        n = plus(summed_n(b_n + r * plus(a_n, bias_hn), t), bias_n).tanh()
        return (zoneout(call.zoneout_h, t, h, n + z * (h - n)),)

    output, (h,) = scan(step, wx, (h0.to(acc),), batch_sizes, common_steps(sites))
    rz, n = summed_rz.statistics(len(wx)), summed_n.statistics(len(wx))
    statistics = collect(
        input=input_statistics,
        recurrent=recurrent.statistics(len(wx)),
        summed=None if rz is None or n is None else (torch.cat((rz[0], n[0]), -1), torch.cat((rz[1], n[1]), -1)),
    )
    return output.to(dtype), (h.to(h0.dtype),), statistics
