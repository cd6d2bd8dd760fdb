"""The initialisation of Cooijmans et al. 2017 in PyTorch's layout."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import bnrnn

RecurrentInit = Literal["identity-candidate", "identity-all", "orthogonal"]

_CANDIDATE = {"LSTM": (4, 2), "GRU": (3, 2), "RNN": (1, 0)}  # number of blocks, place of the candidate among them


@torch.no_grad()
def initialize(layer: bnrnn.LSTM | bnrnn.GRU | bnrnn.RNN, recurrent: RecurrentInit, forget_bias: float = 1.0) -> None:
    r"""Orthogonal weights, identity in the recurrence, zero biases but for the forget gate.

    The paper's :math:`W_h` is one :math:`d \times 4d` matrix and "orthogonal" means all its blocks jointly: the rows
    of the paper's matrix, which are the columns of ``weight_hh``, are orthonormal over the blocks together. With
    ``"identity-candidate"`` the candidate's block (g of the LSTM, n of the GRU, the RNN's only one) is the identity
    and the other blocks are jointly orthogonal.

    An LSTM or RNN without normalization carries torch.nn's second bias vector; the paper has one. The second is set
    to zero and not trained.

    Args:
        layer: one direction, any number of layers, no projection.
        recurrent: where the identity stands.
        forget_bias: initial bias of an LSTM's forget gate.

    Raises:
        ValueError: ``recurrent`` is unknown.
    """
    kind = next(name for name in _CANDIDATE if isinstance(layer, getattr(bnrnn, name)))
    for index in range(layer.num_layers):
        nn.init.orthogonal_(getattr(layer, f"weight_ih_l{index}"))
        _recurrent(getattr(layer, f"weight_hh_l{index}"), recurrent, *_CANDIDATE[kind])
        for name in (f"bias_ih_l{index}", f"bias_hh_l{index}"):
            bias = getattr(layer, name, None)
            if bias is not None:
                bias.zero_()
                bias.requires_grad_(kind == "GRU" or "ih" in name)
        if kind == "LSTM":
            size = layer.hidden_size
            getattr(layer, f"bias_ih_l{index}")[size : 2 * size] = forget_bias


def _recurrent(weight: Tensor, kind: RecurrentInit, blocks: int, candidate: int) -> None:
    size = weight.shape[1]
    if kind == "identity-all":
        weight.copy_(torch.eye(size).repeat(blocks, 1))
    elif kind == "orthogonal":
        nn.init.orthogonal_(weight)
    elif kind == "identity-candidate":
        others = torch.empty((blocks - 1) * size, size)
        if blocks > 1:
            nn.init.orthogonal_(others)
        rows = list(others.split(size)) if blocks > 1 else []
        rows.insert(candidate, torch.eye(size))
        weight.copy_(torch.cat(rows))
    else:
        raise ValueError(f"recurrent must be identity-candidate, identity-all or orthogonal, got {kind!r}")
