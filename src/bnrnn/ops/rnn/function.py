"""The recurrence as a public function."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from bnrnn.ops.cells import CELLS
from bnrnn.ops.dispatch import Backend
from bnrnn.ops.recurrence import Recurrence, recur
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
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    call = Recurrence(
        x, (h0,), weight_ih, weight_hh, bias, None, None, sites, batch_sizes, recurrent_mask, (zoneout_h,)
    )
    output, (h,), statistics = recur(CELLS[nonlinearity], call, backend)
    return output, h, statistics
