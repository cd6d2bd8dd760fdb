"""The recurrence as a public function."""

from __future__ import annotations

from torch import Tensor

from bnrnn.ops.cells import CELLS
from bnrnn.ops.dispatch import Backend
from bnrnn.ops.recurrence import Recurrence, recur
from bnrnn.ops.sites import Sites, Statistics


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    weight_hr: Tensor | None = None,
    *,
    sites: Sites = Sites(),  # noqa: B008 - immutable
    batch_sizes: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    zoneout_h: Tensor | None = None,
    zoneout_c: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor, Statistics]:
    r"""One LSTM layer in one direction over a whole sequence.

    .. math::

        (i, f, g, o)_t &= N_s(N_h(W_{hh} (m \odot h_{t-1})) + N_x(W_{ih} x_t)) + b \\
        c_t &= \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t) \\
        h_t &= \sigma(o_t) \odot \tanh(N_c(c_t)) \quad [\, h_t \leftarrow W_{hr} h_t \,]

    where :math:`N_x, N_h, N_s, N_c` are the normalizations of the sites ``input``, ``recurrent``, ``summed`` and
    ``cell``, each the identity where its site is None.

    Args:
        x: ``(T, B, I)``, or integers ``(T, B)`` that stand for one-hot rows. Rows beyond ``batch_sizes`` must be 0.
        h0: ``(B, R)``, with R the projection's size, or H.
        c0: ``(B, H)``.
        weight_ih: ``(4H, I)``.
        weight_hh: ``(4H, R)``.
        bias: ``(4H,)`` or None.
        weight_hr: ``(R, H)`` or None.
        sites: the normalizations.
        batch_sizes: valid rows at each step ``(T,)``, int64 on the CPU, non-increasing (the rows are sorted by length);
            None if all are valid.
        recurrent_mask: ``m``, ``(B, R)``: variational dropout, already scaled.
        zoneout_h: ``(T, B, R)`` of zeros and ones, 1 keeps the old state; or a scalar, the expectation.
        zoneout_c: the same for the cell, ``(T, B, H)``.
        backend: ``"reference"``, ``"cpu"``, or ``"auto"`` for the kernel where it covers the call.

    Returns:
        Outputs ``(T, B, R)``, zero where not valid; final ``h`` and ``c`` of each row; and the batch statistics taken,
        a dict of site name to ``(mean, var)``.

    Raises:
        ValueError: shapes that do not fit together; ``backend="cpu"`` does not cover the call.

    Source: Cooijmans et al. 2017, eq. 6-8; Laurent et al. 2015, eq. 9-10.
    """
    call = Recurrence(
        x, (h0, c0), weight_ih, weight_hh, bias, None, weight_hr, sites, batch_sizes, recurrent_mask,
        (zoneout_h, zoneout_c),
    )  # fmt: skip
    output, (h, c), statistics = recur(CELLS["lstm"], call, backend)
    return output, h, c, statistics
