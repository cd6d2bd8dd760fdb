"""The simple (Elman) recurrence."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from bnrnn.ops.check import check_call
from bnrnn.ops.dispatch import Backend, dispatch
from bnrnn.ops.rnn import op as kernel
from bnrnn.ops.rnn.reference import rnn as reference
from bnrnn.ops.sites import Sites, Statistics


def rnn(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
    sites: Sites = Sites(),  # noqa: B008 - immutable
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Statistics]:
    r"""One simple recurrent layer in one direction over a whole sequence.

    .. math:: h_t = \varphi(N_s(N_h(W_{hh} (m \odot h_{t-1})) + N_x(W_{ih} x_t)) + b)

    Args:
        x: ``(T, B, I)``, or integers ``(T, B)`` that stand for one-hot rows. Rows beyond ``batch_sizes`` must be 0.
        h0: ``(B, H)``.
        weight_ih: ``(H, I)``.
        weight_hh: ``(H, H)``.
        bias: ``(H,)`` or None.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        sites, batch_sizes, recurrent_mask, zoneout_h, backend: see :func:`bnrnn.ops.lstm`; there is no ``cell``.

    Returns:
        Outputs ``(T, B, H)``, zero where not valid; the final state of each row; the batch statistics taken.

    Raises:
        ValueError: shapes that do not fit together; ``backend="cpu"`` does not cover the call.

    Source: Laurent et al. 2015, eq. 9 (``summed``) and eq. 10 (``input``).
    """
    batch, units = x.shape[1], weight_hh.shape[1]
    check_call(
        x,
        weight_ih,
        weight_hh,
        1,
        {
            "weight_hh": (weight_hh, (units, units)),
            "bias": (bias, (units,)),
            "h0": (h0, (batch, units)),
        },
        sites=sites,
        batch_sizes=batch_sizes,
        recurrent_mask=recurrent_mask,
        zoneouts={"zoneout_h": (zoneout_h, units)},
    )
    return dispatch(
        backend,
        reference,
        kernel,
        x,
        h0,
        weight_ih,
        weight_hh,
        bias,
        nonlinearity=nonlinearity,
        sites=sites,
        batch_sizes=batch_sizes,
        recurrent_mask=recurrent_mask,
        zoneout_h=zoneout_h,
    )
