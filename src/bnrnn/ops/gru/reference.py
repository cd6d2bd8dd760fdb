"""The GRU recurrence with normalization, in plain PyTorch: the definition."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn.ops.normalize import StepNormalizer, normalize_input
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.scan import State, accumulation_dtype, input_product, recurrent_product, scan, zoneout
from bnrnn.ops.sites import Statistics, split


def gru(call: Recurrence) -> Result:
    r"""See :func:`bnrnn.ops.gru`."""
    x, (h0,), weight_ih, weight_hh, bias, bias_hn, _, sites, batch_sizes, recurrent_mask, _ = call
    hidden = h0.shape[1]
    sizes = (2 * hidden, hidden)  # the two gates, and the candidate whose recurrent part the reset gate scales
    wx = input_product(x, weight_ih)
    dtype, acc = wx.dtype, accumulation_dtype(wx.dtype)
    parts = [
        normalize_input(part, site, batch_sizes)
        for part, site in zip(wx.to(acc).split(sizes, -1), split(sites.input, sizes), strict=True)
    ]
    wx = torch.cat([part for part, _ in parts], -1)
    recurrent_rz, recurrent_n = (StepNormalizer(s) for s in split(sites.recurrent, sizes))
    summed_rz, summed_n = (StepNormalizer(s) for s in split(sites.summed, sizes))
    bias_rz, bias_n = (None, None) if bias is None else bias.split(sizes)

    def plus(value: Tensor, offset: Tensor | None) -> Tensor:
        return value if offset is None else value + offset

    def step(t: int, b: Tensor, state: State) -> State:
        (h,) = state
        b_rz, b_n = b.split(sizes, 1)
        a_rz, a_n = recurrent_product(h, recurrent_mask, weight_hh).split(sizes, 1)
        r, z = plus(summed_rz(recurrent_rz(a_rz, t) + b_rz, t), bias_rz).sigmoid().chunk(2, 1)
        n = plus(summed_n(b_n + r * plus(recurrent_n(a_n, t), bias_hn), t), bias_n).tanh()
        return (zoneout(call.zoneout_h, t, h, n + z * (h - n)),)

    output, (h,) = scan(step, wx, (h0.to(acc),), batch_sizes)
    taken = {
        "input": [part for _, part in parts],
        "recurrent": [recurrent_rz.statistics(len(wx)), recurrent_n.statistics(len(wx))],
        "summed": [summed_rz.statistics(len(wx)), summed_n.statistics(len(wx))],
    }
    statistics: Statistics = {
        name: (torch.cat([rz[0], n[0]], -1), torch.cat([rz[1], n[1]], -1))
        for name, (rz, n) in taken.items()
        if rz is not None and n is not None
    }
    return output.to(dtype), (h.to(h0.dtype),), statistics
