"""Whether a kernel takes a call."""

from __future__ import annotations

import sys

from bnrnn.ops.cells import Cell
from bnrnn.ops.recurrence import Recurrence


def has_kernel(cell: Cell, call: Recurrence) -> bool:
    lstm, gru, rnn = (sys.modules[f"bnrnn.ops.{name}.op"] for name in ("lstm", "gru", "rnn"))
    weights = call.weight_ih, call.weight_hh, call.bias
    if cell.name == "lstm":
        return lstm.unsupported(call.x, *call.state, *weights, call.weight_hr, sites=call.sites) is None
    if cell.name == "gru":
        return gru.unsupported(call.x, *call.state, *weights, call.bias_hn, sites=call.sites) is None
    return rnn.unsupported(call.x, *call.state, *weights, nonlinearity=cell.name, sites=call.sites) is None
