"""One layer in one direction: its tensors as one record, and the way from it to a backend."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from bnrnn.ops.cells import Cell
from bnrnn.ops.dispatch import Backend
from bnrnn.ops.gru import gru
from bnrnn.ops.lstm import lstm
from bnrnn.ops.rnn import rnn
from bnrnn.ops.sites import Sites, Statistics


class Recurrence(NamedTuple):
    """The tensors of one call; shapes and meaning as in :func:`bnrnn.ops.lstm`.

    Attributes:
        x: ``(T, B, I)``, or integers ``(T, B)``.
        state: h, and an LSTM's c.
        weight_ih, weight_hh, bias: the weights.
        bias_hn: a GRU's, inside the product with its reset gate.
        weight_hr: an LSTM's projection.
        sites: the normalizations.
        batch_sizes: valid rows at each step.
        recurrent_mask: on the state before the recurrent product.
        zoneout: a mask or an expectation for each tensor of the state; empty for none.
    """

    x: Tensor
    state: tuple[Tensor, ...]
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor | None = None
    bias_hn: Tensor | None = None
    weight_hr: Tensor | None = None
    sites: Sites = Sites()
    batch_sizes: Tensor | None = None
    recurrent_mask: Tensor | None = None
    zoneout: tuple[Tensor | None, ...] = ()


def recur(cell: Cell, call: Recurrence, backend: Backend = "auto") -> tuple[Tensor, tuple[Tensor, ...], Statistics]:
    """Run a cell over a whole sequence: outputs, the final state of each row, and the batch statistics taken.

    Raises:
        ValueError: shapes that do not fit together; the named backend does not cover the call.
    """
    zoneout = dict(zip(("zoneout_h", "zoneout_c"), call.zoneout, strict=False))
    options: dict[str, Any] = {
        "sites": call.sites,
        "batch_sizes": call.batch_sizes,
        "recurrent_mask": call.recurrent_mask,
        "backend": backend,
        **zoneout,
    }
    weights = (call.weight_ih, call.weight_hh, call.bias)
    if cell.name == "lstm":
        h0, c0 = call.state
        output, h, c, statistics = lstm(call.x, h0, c0, *weights, call.weight_hr, **options)
        return output, (h, c), statistics
    (h0,) = call.state
    if cell.name == "gru":
        output, h, statistics = gru(call.x, h0, *weights, call.bias_hn, **options)
    else:
        output, h, statistics = rnn(call.x, h0, *weights, nonlinearity=cell.name, **options)
    return output, (h,), statistics
