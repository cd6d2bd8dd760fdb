"""The tensors of one recurrence, as they go from a layer through checks and dispatch to a backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bnrnn.ops.sites import Sites, Statistics


class Recurrence(NamedTuple):
    """One layer in one direction; shapes and meaning as in :func:`bnrnn.ops.lstm`.

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

    @property
    def zoneout_h(self) -> Tensor | None:
        return self.zoneout[0] if self.zoneout else None

    @property
    def zoneout_c(self) -> Tensor | None:
        return self.zoneout[1] if len(self.zoneout) > 1 else None

    @property
    def trained(self) -> tuple[Tensor | None, ...]:
        """What gradients go through, beside the sites' tensors."""
        return (self.x, *self.state, self.weight_ih, self.weight_hh, self.bias, self.bias_hn, self.weight_hr)


Result = tuple[Tensor, tuple[Tensor, ...], Statistics]
"""Outputs, the final state of each row, and the batch statistics taken."""
