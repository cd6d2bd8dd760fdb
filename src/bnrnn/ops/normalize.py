"""The normalizing transforms in plain differentiable PyTorch.

Batch normalization (Cooijmans et al. 2017, eq. 5): ``BN(x) = gamma * (x - mean) / sqrt(var + eps) + beta`` with the
biased variance; the gradient goes through mean and variance. Layer normalization (Ba et al. 2016) is the same with
mean and variance over the features of each row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrnn._shapes import Float
from bnrnn.ops.sites import Site, split


def _affine(x: Tensor, mean: Tensor, var: Tensor, site: Site) -> Tensor:
    y = (x - mean) * torch.rsqrt(var + site.eps)
    if site.gamma is not None:
        y = y * site.gamma
    return y if site.beta is None else y + site.beta


def _moments(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, in two passes: E[x^2] - E[x]^2 cancels in float32."""
    mean = x.mean(dim, keepdim=True)
    return mean, (x - mean).square().mean(dim, keepdim=True)


def _without_statistics(x: Tensor, site: Site, groups: tuple[int, ...] | None) -> Tensor:
    """Layer normalization, of each group of features by itself, or a shift."""
    if site.kind == "shift":
        return x if site.beta is None else x + site.beta
    if groups is None:
        return _affine(x, *_moments(x, -1), site)
    parts = zip(x.split(groups, -1), split(site, groups), strict=True)
    return torch.cat([_affine(part, *_moments(part, -1), own) for part, own in parts if own is not None], -1)


class StepNormalizer:
    """A site inside the recurrence: called once for every time step, in order.

    Frame-wise batch statistics need ``min_rows`` valid rows, of all processes together where several take them. A later
    step with fewer takes those of the last step that had enough, as constants: no gradient flows through borrowed
    statistics.

    Args:
        site: None to leave everything as it is.
        groups: of the features, which layer normalization takes apart; None for one.
    """

    def __init__(self, site: Site | None, groups: tuple[int, ...] | None = None) -> None:
        self._site, self._groups = site, groups
        self._taken: list[tuple[Tensor, Tensor]] = []
        self._given = None
        if site is not None and site.mean is not None and site.var is not None:
            self._given = list(zip(site.mean.unbind(0), site.var.unbind(0), strict=True))

    def __call__(self, x: Float[Tensor, "rows n"], t: int) -> Float[Tensor, "rows n"]:
        site = self._site
        if site is None:
            return x
        if site.kind in ("layer", "shift"):
            return _without_statistics(x, site, self._groups)
        rows, processes = x.shape[0], site.processes
        if processes is not None:
            rows = processes.rows[t] if t < processes.steps else 0
        if rows == 0:  # a step that only other sites have a part in
            return x
        if self._given is not None:
            mean, var = self._given[t]
        elif rows >= site.min_rows:
            if processes is None:
                mean, var = _moments(x, 0)
            else:
                own = _moments(x, 0) if x.shape[0] else (x.sum(0, keepdim=True),) * 2
                mean, var = processes.of_step(t, *own)
            self._taken.append((mean.detach(), var.detach()))
        else:
            mean, var = self._taken[-1]
            self._taken.append((mean, var))
        return _affine(x, mean, var, site)

    def statistics(self, steps: int) -> tuple[Tensor, Tensor] | None:
        """Mean and variance taken at each of ``steps`` steps, or of the processes' where these have more, ``(T, n)``;
        None where none were taken.
        """
        if self._site is None or not self._taken:
            return None
        if self._site.processes is not None:
            steps = self._site.processes.steps
        taken = self._taken + [self._taken[-1]] * (steps - len(self._taken))
        means, variances = zip(*taken, strict=True)
        return torch.cat(means), torch.cat(variances)


def normalize_input(
    wx: Float[Tensor, "T B n"], site: Site | None, batch_sizes: Tensor | None, groups: tuple[int, ...] | None = None
) -> tuple[Float[Tensor, "T B n"], tuple[Tensor, Tensor] | None]:
    """Normalize the input products of all steps at once.

    Rows beyond ``batch_sizes[t]`` enter no statistic: where ``x`` is integers even zeros have a product.

    Args:
        wx: the products.
        site: None to leave them as they are.
        batch_sizes: valid rows at each step; None for all.
        groups: of the features, as for :class:`StepNormalizer`.

    Returns:
        The normalized products and the statistics taken, ``(T, n)`` or ``(1, n)``, None where none were. Where
        processes take them together, T is the steps of the one that has most.
    """
    if site is None:
        return wx, None
    if site.kind in ("layer", "shift"):
        return _without_statistics(wx, site, groups), None
    if site.mean is not None and site.var is not None:
        return _affine(wx, site.mean.unsqueeze(1), site.var.unsqueeze(1), site), None

    processes, over = site.processes, (1,) if site.kind == "frame" else (0, 1)
    if batch_sizes is None and processes is None:
        mean = wx.mean(over, keepdim=True)
        var = (wx - mean).square().mean(over, keepdim=True)
        return _affine(wx, mean, var, site), (mean.detach().squeeze(1), var.detach().squeeze(1))

    steps, batch = wx.shape[:2]
    rows = torch.full((steps,), batch) if batch_sizes is None else batch_sizes
    valid = (torch.arange(batch, device=wx.device) < rows.to(wx.device).unsqueeze(1)).unsqueeze(-1)
    wx = wx.masked_fill(~valid, 0)
    together = rows if processes is None else torch.tensor(processes.rows)
    own = len(together) if site.kind == "sequence" else int((together >= site.min_rows).sum())
    counted, valid = wx[:own], valid[:own]
    n = valid.sum(over, keepdim=True).clamp(min=1)  # a process may have no row where others have some
    mean = counted.sum(over, keepdim=True) / n
    var = ((counted - mean) * valid).square().sum(over, keepdim=True) / n
    mean, var = mean.squeeze(1), var.squeeze(1)
    if processes is not None:
        if site.kind == "sequence":
            mean, var = processes.of_all(mean, var)
        else:
            longer = (0, 0, 0, own - len(mean))
            mean, var = processes.of_steps(F.pad(mean, longer), F.pad(var, longer))
    if site.kind == "frame":
        borrowed = (len(together) - own, -1)
        mean = torch.cat((mean, mean[-1:].detach().expand(borrowed)))
        var = torch.cat((var, var[-1:].detach().expand(borrowed)))
    normalized = _affine(wx, mean[:steps].unsqueeze(1), var[:steps].unsqueeze(1), site)
    return normalized, (mean.detach(), var.detach())
