"""The GRU layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnrnn.nn.norm import Norm, PresetName
from bnrnn.nn.parameters import Backend
from bnrnn.nn.recurrent import RecurrentLayer
from bnrnn.nn.sequences import Lengths
from bnrnn.ops.cells import CELLS


class GRU(RecurrentLayer):
    r"""A gated recurrent unit layer, normalized: ``torch.nn.GRU`` with ``norm=``.

    .. math::

        a_t &= N_h(W_{hh} h_{t-1}), \quad b_t = N_x(W_{ih} x_t) \\
        (r, z)_t &= \sigma(N_s(a_t + b_t)_{rz} + b_{ih}^{rz} + b_{hh}^{rz}) \\
        n_t &= \tanh(N_s(b_t^n + r_t \odot (a_t^n + b_{hh}^n)) + b_{ih}^n) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    With ``norm=None`` the layer has torch.nn.GRU's parameters and results. With a norm it keeps both
    biases, since :math:`b_{hh}^n` acts inside the product with the reset gate.

    The arguments not named here are those of :class:`bnrnn.LSTM`; a GRU has no site ``cell`` and no projection.

    Args:
        zoneout: probability of keeping a unit's old state; in ``eval()`` the expectation.

    A call ``output, h_n = layer(input, hx=None, lengths=None, start_step=0)`` takes and returns the shapes of
    :class:`bnrnn.LSTM`, with ``hx`` and ``h_n`` one tensor ``(layers * D, B, H)``.

    Raises:
        ValueError, TypeError: as :class:`bnrnn.LSTM`.

    Sources: torch.nn.GRU's equations, normalized as in Cooijmans et al. 2017 and Ba et al. 2016.
    """

    torch_class = nn.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        norm: Norm | PresetName | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            CELLS["gru"],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            norm,
            (zoneout,),
            recurrent_dropout,
            backend,
            device,
            dtype,
        )

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Lengths | None = None,
        start_step: int = 0,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """The call, with the shapes that the class describes."""
        output, (h_n,) = self._forward(input, None if hx is None else (hx,), lengths, start_step)
        return output, h_n
