"""The normalizing transforms in plain differentiable PyTorch.

Batch normalization (Cooijmans et al. 2017, eq. 5): ``BN(x) = gamma * (x - mean) / sqrt(var + eps) + beta`` with the
biased variance; the gradient goes through mean and variance. Layer normalization (Ba et al. 2016) is the same with
mean and variance over the features of each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn._shapes import Float
from bnrnn.ops.sites import Site


def _affine(x: Tensor, mean: Tensor, var: Tensor, site: Site) -> Tensor:
    y = (x - mean) * torch.rsqrt(var + site.eps)
    if site.gamma is not None:
        y = y * site.gamma
    return y if site.beta is None else y + site.beta


def _moments(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, in two passes: E[x^2] - E[x]^2 cancels in float32."""
    mean = x.mean(dim, keepdim=True)
    return mean, (x - mean).square().mean(dim, keepdim=True)


def _without_statistics(x: Tensor, site: Site) -> Tensor:
    if site.kind == "shift":
        return x if site.beta is None else x + site.beta
    return _affine(x, *_moments(x, -1), site)


class StepNormalizer:
    """A site inside the recurrence: called once for every time step, in order.

    Frame-wise batch statistics need ``min_rows`` valid rows. A later step with fewer takes those of the last step
    that had enough, as constants: no gradient flows through borrowed statistics.
    """

    def __init__(self, site: Site | None) -> None:
        self._site = site
        self._taken: list[tuple[Tensor, Tensor]] = []
        self._given = None
        if site is not None and site.mean is not None and site.var is not None:
            self._given = list(zip(site.mean.unbind(0), site.var.unbind(0), strict=True))

    def __call__(self, x: Float[Tensor, "rows n"], t: int) -> Float[Tensor, "rows n"]:
        site = self._site
        if site is None:
            return x
        if site.kind in ("layer", "shift"):
            return _without_statistics(x, site)
        if self._given is not None:
            mean, var = self._given[t]
        elif x.shape[0] >= site.min_rows:
            mean, var = _moments(x, 0)
            self._taken.append((mean.detach(), var.detach()))
        else:
            mean, var = self._taken[-1]
            self._taken.append((mean, var))
        return _affine(x, mean, var, site)

    def statistics(self, steps: int) -> tuple[Tensor, Tensor] | None:
        """Mean and variance taken at each of ``steps`` steps, ``(steps, n)``; None where none were taken."""
        if not self._taken:
            return None
        taken = self._taken + [self._taken[-1]] * (steps - len(self._taken))
        means, variances = zip(*taken, strict=True)
        return torch.cat(means), torch.cat(variances)


def normalize_input(
    wx: Float[Tensor, "T B n"], site: Site | None, batch_sizes: Tensor | None
) -> tuple[Float[Tensor, "T B n"], tuple[Tensor, Tensor] | None]:
    """Normalize the input products of all steps at once.

    Rows beyond ``batch_sizes[t]`` enter no statistic: where ``x`` is integers even zeros have a product.

    Returns:
        The normalized products and the statistics taken, ``(T, n)`` or ``(1, n)``, None where none were.
    """
    if site is None:
        return wx, None
    if site.kind in ("layer", "shift"):
        return _without_statistics(wx, site), None
    if site.mean is not None and site.var is not None:
        return _affine(wx, site.mean.unsqueeze(1), site.var.unsqueeze(1), site), None

    if batch_sizes is None:
        over = (1,) if site.kind == "frame" else (0, 1)
        mean = wx.mean(over, keepdim=True)
        var = (wx - mean).square().mean(over, keepdim=True)
        return _affine(wx, mean, var, site), (mean.detach().squeeze(1), var.detach().squeeze(1))

    rows = batch_sizes.to(wx.device)
    valid = (torch.arange(wx.shape[1], device=wx.device) < rows.unsqueeze(1)).unsqueeze(-1)
    wx = wx.masked_fill(~valid, 0)
    if site.kind == "sequence":
        n = rows.sum()
        mean = wx.sum((0, 1), keepdim=True) / n
        var = ((wx - mean) * valid).square().sum((0, 1), keepdim=True) / n
    else:
        own = int((batch_sizes >= site.min_rows).sum())
        n = rows[:own].view(-1, 1, 1)
        mean = wx[:own].sum(1, keepdim=True) / n
        var = ((wx[:own] - mean) * valid[:own]).square().sum(1, keepdim=True) / n
        borrowed = (wx.shape[0] - own, -1, -1)
        mean = torch.cat((mean, mean[-1:].detach().expand(borrowed)))
        var = torch.cat((var, var[-1:].detach().expand(borrowed)))
    return _affine(wx, mean, var, site), (mean.detach().squeeze(1), var.detach().squeeze(1))
