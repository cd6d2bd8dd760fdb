"""The simple (Elman) recurrent layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnrnn import ops
from bnrnn.nn.norm import Norm
from bnrnn.nn.recurrent import Call, RecurrentLayer
from bnrnn.ops.dispatch import Backend
from bnrnn.ops.sites import Statistics

Nonlinearity = Literal["tanh", "relu"]


class RNN(RecurrentLayer):
    r"""A simple (Elman) recurrent layer, normalized: ``torch.nn.RNN`` with ``norm=``.

    .. math:: h_t = \varphi(N_s(N_h(W_{hh} h_{t-1}) + N_x(W_{ih} x_t)) + b)

    With ``norm=None`` the layer has torch.nn.RNN's parameters and results and runs torch's own kernels. With a norm it
    has one bias, ``bias_ih``.

    The arguments not named here are those of :class:`bnrnn.LSTM`; an RNN has no site ``cell`` and no projection.

    Args:
        nonlinearity: :math:`\varphi`, ``"tanh"`` or ``"relu"``.
        zoneout: probability of keeping a unit's old state; in ``eval()`` the expectation.

    A call ``output, h_n = layer(input, hx=None, lengths=None, start_step=0)`` takes and returns the shapes of
    :class:`bnrnn.LSTM`, with ``hx`` and ``h_n`` one tensor ``(layers * D, B, H)``.

    Raises:
        ValueError, TypeError, RuntimeError: as :class:`bnrnn.LSTM`.

    Source: Laurent et al. 2015, eq. 9 (``norm="summed"``) and eq. 10 (``norm="input-frame"``, ``"input-sequence"``).
    """

    gates = 1
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
        norm: Norm | str | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
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
        lengths: Tensor | Sequence[int] | None = None,
        start_step: int = 0,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        output, (h_n,) = self._forward(input, None if hx is None else (hx,), lengths, start_step)
        return output, h_n

    def _recur(self, call: Call) -> tuple[Tensor, tuple[Tensor, ...], Statistics]:
        (h0,) = call.state
        output, h, statistics = ops.rnn(
            call.x,
            h0,
            self._weight("weight_ih", call.suffix),
            self._weight("weight_hh", call.suffix),
            self.biases(call.suffix)[0],
            nonlinearity=self.nonlinearity,
            sites=call.sites,
            batch_sizes=call.batch_sizes,
            recurrent_mask=call.recurrent_mask,
            zoneout_h=call.zoneout[0],
            backend=self.backend,
        )
        return output, (h,), statistics

    def _torch(self) -> Callable[..., Any]:
        return torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu
