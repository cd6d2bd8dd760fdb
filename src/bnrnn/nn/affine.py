"""What known statistics make of a normalization: a scale and a shift for each time step."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn.nn.norm import BatchNorm, Normalization


def affine(norm: Normalization | None) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift ``(S, n)`` of each step in use, None where there is none; a layer normalization has neither."""
    if norm is None:
        return None, None
    beta = None if norm.beta is None else norm.beta.detach().unsqueeze(0)
    if not isinstance(norm.spec, BatchNorm):
        return None, beta
    assert norm.gamma is not None
    mean, var = norm.population(0, max(1, norm.rows_in_use))
    scale = norm.gamma.detach() * torch.rsqrt(var + norm.spec.eps)
    shift = -scale * mean
    return scale.to(norm.gamma.dtype), (shift if beta is None else shift + beta).to(norm.gamma.dtype)
