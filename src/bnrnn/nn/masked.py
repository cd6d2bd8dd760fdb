"""Batch normalization of a padded batch, outside of a recurrence."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn._shapes import Bool, Float
from bnrnn.nn.norm import BatchNorm, Normalization
from bnrnn.nn.norm.site import warn_if_unset
from bnrnn.ops.autograd import is_training
from bnrnn.ops.processes import meet


class MaskedBatchNorm(Normalization):
    r"""Batch normalization over the valid rows of a padded batch.

    .. math::
        \mathrm{BN}(x) = \beta + \gamma \odot \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}, \qquad
        \mathrm{E}[x] = \frac{1}{n} \sum_{\mathrm{valid}} x, \quad
        \mathrm{Var}[x] = \frac{1}{n} \sum_{\mathrm{valid}} (x - \mathrm{E}[x])^2

    with gradients through both statistics; n counts the valid rows of all the leading dimensions together. The running
    averages and :func:`bnrnn.estimate_population_statistics` treat it as they treat the sites of a recurrent layer, in
    the same pass; so do :func:`bnrnn.batch_statistics` and :func:`bnrnn.synchronize`.

    Args:
        size: features, n.
        gamma: what the learnt gain starts from.
        eps: added to the variance.
        momentum: weight of the newest batch in the running averages, as in :class:`bnrnn.BatchNorm`.
        bias: whether to learn :math:`\beta`, from 0.
        device, dtype: of the parameters.

    A call is ``output = norm(x, mask=None)``.

    Shapes:
        x: ``(..., size)``.
        mask: ``(...)``, True where a row is valid; None if all are.
        output: as ``x``, zero where a row is not valid. What stands there enters no statistic and no gradient.

    Raises:
        ValueError: fewer than two valid rows to take statistics of, or shapes that do not fit.

    Source: Cooijmans et al. 2017, section 5.4 and its released code (the affine maps of the Attentive Reader).
    """

    def __init__(
        self,
        size: int,
        *,
        gamma: float = 0.1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        spec = BatchNorm("sequence", gamma=gamma, eps=eps, momentum=momentum)
        super().__init__(spec, size, offset=bias, device=device, dtype=dtype)
        self.eps = eps

    def forward(self, x: Float[Tensor, "*rows n"], mask: Bool[Tensor, "*rows"] | None = None) -> Tensor:
        if x.shape[-1] != self.size:
            raise ValueError(f"x must have {self.size} features in its last dimension, got {tuple(x.shape)}")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != x.shape[:-1]):
            raise ValueError(
                f"mask must be of dtype torch.bool and shape {tuple(x.shape[:-1])}, got {mask.dtype} and"
                f" {tuple(mask.shape)}"
            )
        padding = None if mask is None else ~mask.unsqueeze(-1)
        wide = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(-1, self.size)
        if padding is not None:
            padding = padding.reshape(-1, 1)
            wide = wide.masked_fill(padding, 0)
        processes = None
        if self.takes_batch_statistics:
            count = wide.new_tensor(len(wide)) if mask is None else mask.sum()
            group = self.process_group
            if group is not None:
                differentiated = is_training(x, *self.parameters())
                processes = meet(group, [int(count)], {"size": self.size}, wide.device, differentiated)
                count = wide.new_tensor(max(int(count), 1))
            if not torch.compiler.is_compiling() and (count if processes is None else processes.rows[0]) < 2:
                raise ValueError(
                    f"x: expected at least 2 valid rows to take batch statistics of, got {int(count)} in shape"
                    f" {tuple(x.shape)}; use eval() or a larger batch"
                )
            mean = wide.sum(0) / count
            centred = wide - mean
            if padding is not None:
                centred = centred.masked_fill(padding, 0)
            var = centred.square().sum(0) / count
            if processes is not None:
                mean, var = (moment.squeeze(0) for moment in processes.of_all(mean.unsqueeze(0), var.unsqueeze(0)))
                centred = wide - mean
            self.update(0, mean.detach().unsqueeze(0), var.detach().unsqueeze(0))
        else:
            warn_if_unset([self])
            population, variance = self.population(0, 1)
            mean, var = population[0], variance[0]
            centred = wide - mean
        output = centred * torch.rsqrt(var + self.eps)
        if self.gamma is not None:
            output = output * self.gamma
        if self.beta is not None:
            output = output + self.beta
        if padding is not None:
            output = output.masked_fill(padding, 0)
        if processes is not None:
            (output,) = processes.leave(output)
        return output.to(x.dtype).reshape(x.shape)
