"""The parameters and population statistics of one normalized site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnrnn._shapes import Float
from bnrnn.nn.norm import BatchNorm, LayerNorm, Shift, SiteNorm
from bnrnn.ops import Site, average_

Override = Literal["batch", "estimate"]


class Normalization(nn.Module):
    """One site of one layer and direction: what its recurrence is given, and what it remembers.

    Attributes:
        gamma: learnt gain ``(n,)``, shared over time; None for a :class:`~bnrnn.Shift`.
        beta: learnt offset ``(n,)`` at the site ``cell``, else None.
        mean, var, count: with :class:`~bnrnn.BatchNorm`, the population statistics ``(S, n)`` and the number of batches
            in each row ``(S,)``. Row s holds what serves at time step s; a later step takes the last row.
    """

    gamma: nn.Parameter | None
    beta: nn.Parameter | None
    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(
        self,
        spec: SiteNorm,
        size: int,
        *,
        offset: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.size = size
        self.override: Override | None = None
        gain = not isinstance(spec, Shift)
        self.gamma = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if gain else None
        self.beta = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if offset else None
        if isinstance(spec, BatchNorm):
            precise = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
            for name in ("mean", "var"):
                self.register_buffer(name, torch.empty(0, size, device=device, dtype=precise))
            self.register_buffer("count", torch.empty(0, device=device, dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gain to its starting value, the offset to 0, and forget the population statistics."""
        if self.gamma is not None and isinstance(self.spec, (BatchNorm, LayerNorm)):
            nn.init.constant_(self.gamma, self.spec.gamma)
        if self.beta is not None:
            nn.init.zeros_(self.beta)
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Forget the population statistics."""
        if isinstance(self.spec, BatchNorm):
            rows = 1 if self.spec.statistics == "sequence" else self.spec.max_steps or 0
            self.mean = self.mean.new_zeros(rows, self.size)
            self.var = self.var.new_ones(rows, self.size)
            self.count = self.count.new_zeros(rows)

    @property
    def takes_batch_statistics(self) -> bool:
        return isinstance(self.spec, BatchNorm) and (self.training or self.override is not None)

    def site(self, start: int, steps: int) -> Site:
        """What the recurrence needs to know for the time steps from ``start`` on.

        Raises:
            RuntimeError: population statistics are wanted and were never set.
        """
        spec = self.spec
        if isinstance(spec, Shift):
            return Site("shift", beta=self.beta)
        if isinstance(spec, LayerNorm):
            return Site("layer", self.gamma, self.beta, spec.eps)
        mean, var = (None, None) if self.takes_batch_statistics else self._population(start, steps)
        return Site(spec.statistics, self.gamma, self.beta, spec.eps, spec.min_rows, mean, var)

    def _population(self, start: int, steps: int) -> tuple[Tensor, Tensor]:
        mean, var, count = self.mean, self.var, self.count
        rows = count.shape[0]
        if rows == 0 or not (torch.compiler.is_compiling() or count.any()):
            raise RuntimeError(
                "this layer is in eval() and its population statistics were never set: train it first, call "
                "bnrnn.estimate_population_statistics(model, batches), or evaluate under bnrnn.batch_statistics(model)"
            )
        if rows == 1:
            if not self.is_sequence:
                mean, var = mean.expand(steps, -1), var.expand(steps, -1)
        elif not torch.compiler.is_exporting() and start + steps <= rows:  # a graph would fix the choice
            mean, var = mean[start : start + steps], var[start : start + steps]
        else:
            at = torch.arange(start, start + steps, device=mean.device).clamp(max=rows - 1)
            return mean[at], var[at]
        # A graph keeps what it was given, and a later update changes the table in place.
        return (mean.clone(), var.clone()) if torch.is_grad_enabled() else (mean, var)

    @property
    def is_sequence(self) -> bool:
        return isinstance(self.spec, BatchNorm) and self.spec.statistics == "sequence"

    def update(self, start: int, mean: Float[Tensor, "T n"], var: Float[Tensor, "T n"]) -> None:
        """Take a batch's statistics of the steps from ``start`` on into the averages: :func:`bnrnn.ops.average_`."""
        spec = self.spec
        if not isinstance(spec, BatchNorm) or self.override == "batch":
            return
        start = 0 if self.is_sequence else start
        end = start + mean.shape[0]
        if spec.max_steps is not None:
            end = min(end, spec.max_steps)
        if end <= start:
            return
        self._resize(end)
        momentum = 0.0 if spec.momentum is None or self.override is not None else spec.momentum
        rows = end - start
        average_(self.mean, self.var, self.count, mean[:rows], var[:rows], start, momentum)
        if rows < self.count.shape[0]:  # a batch over all rows leaves none empty
            self._fill()

    def _resize(self, rows: int) -> None:
        """Lengthen the table by empty rows."""
        missing = rows - self.count.shape[0]
        if missing > 0:
            self.mean = torch.cat((self.mean, self.mean.new_zeros(missing, self.size)))
            self.var = torch.cat((self.var, self.var.new_ones(missing, self.size)))
            self.count = torch.cat((self.count, self.count.new_zeros(missing)))

    def _fill(self) -> None:
        """Give each empty row the values of the nearest earlier row that has some, else of the first that has."""
        has = self.count > 0
        own = torch.where(has, torch.arange(len(has), device=has.device), -1).cummax(0).values
        source = torch.where(own < 0, has.int().argmax(), own)
        self.mean.copy_(self.mean[source])
        self.var.copy_(self.var[source])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Normalization:
        """Move the statistics with the module, but never below float32."""
        if not isinstance(self.spec, BatchNorm):
            return super()._apply(fn, recurse)
        exact = self.mean, self.var
        super()._apply(fn, recurse)
        if self.mean.dtype != (precise := torch.promote_types(self.mean.dtype, torch.float32)):
            self.mean, self.var = (t.to(self.mean.device, precise) for t in exact)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take over a table of any length; with ``max_steps`` it keeps its own and cuts or repeats the last row."""
        if isinstance(self.spec, BatchNorm) and self.spec.statistics == "frame":
            state_dict = dict(state_dict)
            for name in ("mean", "var", "count"):
                own, value = getattr(self, name), state_dict.get(prefix + name)
                if not isinstance(value, Tensor) or value.dim() != own.dim() or value.shape[1:] != own.shape[1:]:
                    continue  # missing or misshapen: torch's own loading says so
                value = value if self.spec.max_steps is None else _lengthened(value, own, name)
                state_dict[prefix + name] = value
                setattr(self, name, own.new_empty(len(value), *own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"{self.size}, {self.spec}"


def _lengthened(value: Tensor, own: Tensor, name: str) -> Tensor:
    """``value`` with as many rows as ``own``: cut, or continued by its last row with a count of 0."""
    missing = len(own) - len(value)
    if missing <= 0:
        return value[: len(own)]
    if len(value) == 0:
        return torch.full_like(own, int(name == "var"))
    tail = value[-1:].expand(missing, *value.shape[1:])
    return torch.cat((value, torch.zeros_like(tail) if name == "count" else tail))
