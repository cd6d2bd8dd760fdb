"""The LSTM recurrence with normalization, in plain PyTorch: the definition."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bnrnn.ops.normalize import StepNormalizer, normalize_input
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.scan import State, accumulation_dtype, input_product, recurrent_product, scan, zoneout
from bnrnn.ops.sites import collect, common_steps


def lstm(call: Recurrence) -> Result:
    r"""See :func:`bnrnn.ops.lstm`."""
    x, (h0, c0), weight_ih, weight_hh, bias, _, weight_hr, sites, batch_sizes, recurrent_mask, _ = call
    zoneout_h, zoneout_c = call.zoneout_h, call.zoneout_c
    wx = input_product(x, weight_ih)
    dtype, acc = wx.dtype, accumulation_dtype(wx.dtype)
    wx, input_statistics = normalize_input(wx.to(acc), sites.input, batch_sizes)
    recurrent, summed, cell = (StepNormalizer(s) for s in (sites.recurrent, sites.summed, sites.cell))

    def step(t: int, b: Tensor, state: State) -> State:
        h, c = state
        a = recurrent(recurrent_product(h, recurrent_mask, weight_hh), t)
        gates = summed(a + b, t)
        if bias is not None:
            gates = gates + bias
        i, f, g, o = gates.chunk(4, 1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        new_h = o.sigmoid() * cell(new_c, t).tanh()
        if weight_hr is not None:
            new_h = F.linear(new_h.to(weight_hr.dtype), weight_hr).to(acc)
        return zoneout(zoneout_h, t, h, new_h), zoneout(zoneout_c, t, c, new_c)

    output, (h, c) = scan(step, wx, (h0.to(acc), c0.to(acc)), batch_sizes, common_steps(sites))
    statistics = collect(
        input=input_statistics,
        recurrent=recurrent.statistics(len(wx)),
        summed=summed.statistics(len(wx)),
        cell=cell.statistics(len(wx)),
    )
    return output.to(dtype), (h.to(h0.dtype), c.to(c0.dtype)), statistics
