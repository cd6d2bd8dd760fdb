"""The LSTM layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnrnn.nn.norm import Norm, PresetName
from bnrnn.nn.parameters import Backend
from bnrnn.nn.recurrent import RecurrentLayer
from bnrnn.nn.sequences import Lengths
from bnrnn.ops.cells import CELLS


class LSTM(RecurrentLayer):
    r"""A long short-term memory layer, normalized: ``torch.nn.LSTM`` with ``norm=``.

    .. math::

        (\tilde i, \tilde f, \tilde g, \tilde o)_t &= N_s(N_h(W_{hh} h_{t-1}) + N_x(W_{ih} x_t)) + b \\
        c_t &= \sigma(\tilde f_t) \odot c_{t-1} + \sigma(\tilde i_t) \odot \tanh(\tilde g_t) \\
        h_t &= \sigma(\tilde o_t) \odot \tanh(N_c(c_t))

    :math:`N_x, N_h, N_s, N_c` are the normalizations of the sites ``input``, ``recurrent``, ``summed`` and ``cell`` of
    :class:`bnrnn.Norm`. ``norm="recurrent"`` is the BN-LSTM. With ``norm=None`` the layer has torch.nn.LSTM's
    parameters and results. With a norm it has one bias, ``bias_ih``, since a second would only be added to it;
    :meth:`from_torch` takes over a trained torch.nn layer.

    Args:
        input_size: features of the input, I.
        hidden_size: units, H.
        num_layers: layers, each reading the outputs of the one below.
        bias: whether to learn b.
        batch_first: whether input and output are ``(B, T, features)`` instead of ``(T, B, features)``.
        dropout: on the outputs of each layer but the last, in training.
        bidirectional: whether a second direction reads each sequence from its own last valid step to its first.
        proj_size: if above 0, the outputs are projected, :math:`h_t \leftarrow W_{hr} h_t`.
        norm: None, the name of a preset (``"recurrent"``, ``"input-frame"``, ``"input-sequence"``,
            ``"sequence-input"``, ``"summed"``, ``"layer"``), or a :class:`bnrnn.Norm`.
        zoneout: probability of keeping a unit's old state, for cell and hidden alike or as a pair ``(cell, hidden)``;
            in ``eval()`` the expectation (Krueger et al. 2017).
        recurrent_dropout: probability of dropping a unit of :math:`h_{t-1}`, one mask for all steps of a sequence (Gal
            and Ghahramani 2016).
        backend: ``"auto"``: the fastest that covers the call; ``"reference"``: plain PyTorch, differentiable twice;
            ``"cpu"``: the compiled kernel or an error; ``"torch"``, without norm, zoneout and recurrent dropout:
            torch's own functions, for torch.nn's numbers bit for bit.
        device, dtype: of the parameters.

    A call is ``output, (h_n, c_n) = layer(input, hx=None, lengths=None, start_step=0)``. With D the number of
    directions and R the projection's size or H:

    Shapes:
        input: ``(T, B, I)``, ``(B, T, I)`` with ``batch_first``, ``(T, I)`` unbatched, or a PackedSequence. Integers
            without the last dimension stand for one-hot rows; their product is a look-up.
        hx: ``h_0 (layers * D, B, R)`` and ``c_0 (layers * D, B, H)``, without B if unbatched; None for zeros.
        lengths: ``(B,)``, from 1 to T: a tensor, a list or an array. Padding enters no statistic, output or gradient,
            whatever it holds. Final states are those at each sequence's own end.
        start_step: the time step of the whole sequence at which this input starts. Chunks with carried state and
            ``start_step`` equal the whole. In training the table of statistics reaches to the last step seen, so count
            steps from the start of a sequence, or give ``max_steps``.
        output: ``(T, B, D * R)`` or as the input, zero beyond a sequence's length.
        h_n, c_n: as ``hx``.

    :meth:`stream` reads a sequence one time step a call.

    Raises:
        ValueError, TypeError: an argument of the constructor or the call outside what is allowed; fewer rows in
            training than batch statistics need. Nothing has been changed then.

    Warns:
        UserWarning: ``eval()`` with batch normalization whose population statistics were never set; mean 0 and variance
            1 serve, as in torch.nn.BatchNorm1d.

    Sources: Cooijmans et al. 2017, eq. 6-8; Laurent et al. 2015, eq. 9-10; Ba et al. 2016.
    """

    torch_class = nn.LSTM
    torch_options = ("proj_size",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        norm: Norm | PresetName | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        pair = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
        if len(pair) != 2:
            raise ValueError(f"zoneout must be a probability or a pair (cell, hidden), got {zoneout!r}")
        super().__init__(
            CELLS["lstm"],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            norm,
            pair[::-1],
            recurrent_dropout,
            backend,
            device,
            dtype,
        )

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Lengths | None = None,
        start_step: int = 0,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """The call, with the shapes that the class describes."""
        if hx is not None and not (isinstance(hx, (tuple, list)) and len(hx) == 2):
            raise TypeError(f"hx must be a pair (h_0, c_0) or None, got {type(hx).__name__}")
        output, (h_n, c_n) = self._forward(input, None if hx is None else tuple(hx), lengths, start_step)
        return output, (h_n, c_n)
