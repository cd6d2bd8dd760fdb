"""The simple (Elman) recurrent layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnrnn.nn.norm import Norm, PresetName
from bnrnn.nn.parameters import Backend
from bnrnn.nn.recurrent import RecurrentLayer
from bnrnn.nn.sequences import Lengths
from bnrnn.ops.cells import CELLS

Nonlinearity = Literal["tanh", "relu"]


class RNN(RecurrentLayer):
    r"""A simple (Elman) recurrent layer, normalized: ``torch.nn.RNN`` with ``norm=``.

    .. math:: h_t = \varphi(N_s(N_h(W_{hh} h_{t-1}) + N_x(W_{ih} x_t)) + b)

    With ``norm=None`` the layer has torch.nn.RNN's parameters and results. With a norm it has one bias, ``bias_ih``.

    The arguments not named here are those of :class:`bnrnn.LSTM`; an RNN has no site ``cell`` and no projection.

    Args:
        nonlinearity: :math:`\varphi`, ``"tanh"`` or ``"relu"``.
        zoneout: probability of keeping a unit's old state; in ``eval()`` the expectation.

    A call ``output, h_n = layer(input, hx=None, lengths=None, start_step=0)`` takes and returns the shapes of
    :class:`bnrnn.LSTM`, with ``hx`` and ``h_n`` one tensor ``(layers * D, B, H)``.

    Raises:
        ValueError, TypeError: as :class:`bnrnn.LSTM`.

    Source: Laurent et al. 2015, eq. 9 (``norm="summed"``) and eq. 10 (``norm="input-frame"``, ``"input-sequence"``).
    """

    torch_class = nn.RNN
    torch_options = ("nonlinearity",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
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
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            CELLS[nonlinearity],
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
        self.nonlinearity: Nonlinearity = nonlinearity

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
