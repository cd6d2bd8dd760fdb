"""The recurrence as a public function."""

from __future__ import annotations

from torch import Tensor

from bnrnn.ops.cells import CELLS
from bnrnn.ops.dispatch import Backend
from bnrnn.ops.recurrence import Recurrence, recur
from bnrnn.ops.sites import Sites, Statistics


def gru(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    bias_hn: Tensor | None,
    *,
    sites: Sites = Sites(),  # noqa: B008 - immutable
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Statistics]:
    r"""One GRU layer in one direction over a whole sequence.

    .. math::

        a_t &= N_h(W_{hh} (m \odot h_{t-1})), \quad b_t = N_x(W_{ih} x_t) \\
        (r, z)_t &= \sigma(N_s(a_t + b_t)_{rz} + b_{rz}) \\
        n_t &= \tanh(N_s(b_t^n + r_t \odot (a_t^n + b_{hn})) + b_n) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Layer normalization takes its statistics over the 2H features of the gates and over the H of the candidate
    apart, as Ba et al. 2016 do.

    Args:
        x: ``(T, B, I)``, or integers ``(T, B)`` that stand for one-hot rows. Rows beyond ``batch_sizes`` must be 0.
        h0: ``(B, H)``.
        weight_ih: ``(3H, I)``.
        weight_hh: ``(3H, H)``.
        bias: ``(3H,)`` outside the reset product, or None.
        bias_hn: ``(H,)`` inside the reset product, or None.
        sites, batch_sizes, recurrent_mask, zoneout_h, backend: see :func:`bnrnn.ops.lstm`; a GRU has no ``cell``.

    Returns:
        Outputs ``(T, B, H)``, zero where not valid; the final state of each row; the batch statistics taken.

    Raises:
        ValueError: shapes that do not fit together; ``backend="cpu"`` does not cover the call.

    Source: torch.nn.GRU's equations, normalized as in Cooijmans et al. 2017 and Ba et al. 2016.
    """
    call = Recurrence(
        x, (h0,), weight_ih, weight_hh, bias, bias_hn, None, sites, batch_sizes, recurrent_mask, (zoneout_h,)
    )
    output, (h,), statistics = recur(CELLS["gru"], call, backend)
    return output, h, statistics
