"""The parameters and population statistics of one normalized site."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnrnn._shapes import Float
from bnrnn.nn.norm.groups import present
from bnrnn.nn.norm.specification import BatchNorm, LayerNorm, Shift, SiteNorm
from bnrnn.nn.norm.table import NAMES, Table, misfits, prepared, resized, room
from bnrnn.nn.values import is_in_backward, is_readable
from bnrnn.ops import Site, average_
from bnrnn.ops.processes import Processes

Override = Literal["batch", "estimate", "merge"]
"""Batch statistics that enter no average, plain averages, or such that are merged with other processes' in the end."""


class Normalization(nn.Module):
    """One site of one layer and direction: what its recurrence is given, and what it remembers.

    Attributes:
        gamma: learnt gain ``(n,)``, shared over time; None for a :class:`~bnrnn.Shift`.
        beta: learnt offset ``(n,)`` at the site ``cell``, else None.
        mean, var, count: with :class:`~bnrnn.BatchNorm`, the population statistics ``(S, n)`` and the number of batches
            in each row ``(S,)``, 0 where a row is not in use. Row s holds what serves at time step s; a later step
            takes the last row. Rows that are not in use hold the values of the nearest earlier row that is, else of the
            first that is, else mean 0 and variance 1.
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
        self._overrides: tuple[Override, ...] = ()
        self._looked = False
        gain = not isinstance(spec, Shift)
        self.gamma = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if gain else None
        self.beta = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if offset else None
        if isinstance(spec, BatchNorm):
            precise = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
            rows = room(spec, 0)
            for name in ("mean", "var"):
                self.register_buffer(name, torch.empty(rows, size, device=device, dtype=precise))
            self.register_buffer("count", torch.empty(rows, device=device, dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gain to its starting value, the offset to 0, and forget the population statistics."""
        if self.gamma is not None and isinstance(self.spec, (BatchNorm, LayerNorm)):
            nn.init.constant_(self.gamma, self.spec.gamma)
        if self.beta is not None:
            nn.init.zeros_(self.beta)
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Forget the population statistics; the table keeps its length."""
        if isinstance(self.spec, BatchNorm):
            with torch.no_grad():
                self.mean.zero_()
                self.var.fill_(1)
                self.count.zero_()
            self._looked = False

    # Who uses which statistics

    @property
    def is_sequence(self) -> bool:
        return isinstance(self.spec, BatchNorm) and self.spec.statistics == "sequence"

    @property
    def min_rows(self) -> int:
        """The least number of rows that batch statistics are taken of."""
        return self.spec.min_rows if isinstance(self.spec, BatchNorm) else 1

    @property
    def override(self) -> Override | None:
        """What the innermost context that holds this site asks for."""
        return self._overrides[-1] if self._overrides else None

    @property
    def takes_batch_statistics(self) -> bool:
        return isinstance(self.spec, BatchNorm) and (self.training or self.override is not None)

    @property
    def process_group(self) -> Any:
        """The group over whose rows a call takes batch statistics now; None for this process's alone."""
        spec = self.spec
        if not isinstance(spec, BatchNorm) or spec.process_group is None or not self.takes_batch_statistics:
            return None
        return present(spec.process_group)

    def enter(self, override: Override) -> None:
        """Begin a context's rule. Contexts may overlap."""
        self._overrides = (*self._overrides, override)

    def leave(self, override: Override) -> None:
        """End the rule that was last entered of this kind."""
        rules = list(reversed(self._overrides))
        rules.remove(override)
        self._overrides = tuple(reversed(rules))

    def __getstate__(self) -> dict[str, Any]:
        """A copy or pickle is no part of the context that it was made in."""
        return {**self.__dict__, "_overrides": ()}

    # Reading

    def site(self, start: int, steps: int, processes: Mapping[Any, Processes] | None = None) -> Site:
        """What the recurrence needs to know for the time steps from ``start`` on.

        Args:
            start, steps: the time steps.
            processes: those that the call has met, by their group; None for none.
        """
        spec = self.spec
        if isinstance(spec, Shift):
            return Site("shift", beta=self.beta)
        if isinstance(spec, LayerNorm):
            return Site("layer", self.gamma, self.beta, spec.eps)
        mean, var = (None, None) if self.takes_batch_statistics else self.population(start, steps)
        own = processes[self.process_group] if processes and self.process_group in processes else None
        return Site(spec.statistics, self.gamma, self.beta, spec.eps, spec.min_rows, mean, var, own)

    def population(self, start: int, steps: int) -> tuple[Tensor, Tensor]:
        """Mean and variance that serve at the time steps from ``start`` on: ``(steps, n)``; ``(1, n)`` of sequences."""
        mean, var = self.mean, self.var
        rows = mean.shape[0]
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
    def rows_in_use(self) -> int:
        """How many rows there are up to the last that a batch has entered."""
        steps = torch.arange(1, len(self.count) + 1, device=self.count.device)
        return int((steps * (self.count > 0)).max())

    def is_unset(self) -> bool:
        """Whether no batch has entered the statistics: asked once, and only where they can be looked at."""
        if self._looked or not isinstance(self.spec, BatchNorm) or not is_readable(self.count):
            return False
        entered = self.count.any()
        if not is_readable(entered):
            return False
        self._looked = True
        return not bool(entered)

    # Writing

    def update(self, start: int, mean: Float[Tensor, "T n"], var: Float[Tensor, "T n"]) -> bool:
        """Take a batch's statistics of the steps from ``start`` on into the averages: :func:`bnrnn.ops.average_`.

        Within a backward pass, where activation checkpointing computes a call again, they have been taken already.

        Returns:
            Whether the table has grown where others do not see it.
        """
        spec = self.spec
        if not isinstance(spec, BatchNorm) or self.override == "batch" or is_in_backward():
            return False
        start = 0 if self.is_sequence else start
        end = start + mean.shape[0]
        if spec.max_steps is not None:
            end = min(end, spec.max_steps)
        if end <= start:
            return False
        unseen = self._grow(room(spec, end)) if end > self.count.shape[0] else False
        momentum = 0.0 if spec.momentum is None or self.override is not None else spec.momentum
        rows = end - start
        average_(self.mean, self.var, self.count, mean[:rows], var[:rows], start, momentum)
        return unseen

    @property
    def _table(self) -> Table:
        return Table(self.mean, self.var, self.count)

    def _grow(self, length: int) -> bool:
        """Lengthen the table; whether others have a part in its tensors that this does not reach.

        The buffers stay the same tensors, so who holds them (``functional_call``, an average of models) sees them grow.
        DistributedDataParallel cannot exchange buffers that grow at different times: there, new tensors take their
        place.
        """
        if torch.compiler.is_compiling():
            table = resized(self._table, length)
            self.mean, self.var, self.count = table.mean, table.var, table.count
            return False
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        distributed = distributed and torch.distributed.get_world_size() > 1
        shared = is_readable(self.count) and self.count.is_cpu and self.count.is_shared()
        with torch.no_grad(), torch.inference_mode(False):
            table = resized(self._table, length)
            for name, value in vars(table).items():
                own = getattr(self, name)
                if distributed or type(own) is not Tensor:
                    setattr(self, name, value)
                else:
                    own.data = value
        alone = self.process_group is None and self.override != "merge"
        return (distributed and alone) or shared

    def lengthen(self, length: int) -> None:
        """Make room for so many rows."""
        if length > len(self.count):
            self._grow(length)

    def restore(self, table: Table) -> None:
        """Take over statistics of the same site, of as many rows or fewer."""
        with torch.no_grad():
            for name, value in vars(resized(table, len(self.count))).items():
                getattr(self, name).copy_(value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Normalization:
        """Move the statistics with the module, but never below float32, and their counts as integers."""
        if not isinstance(self.spec, BatchNorm):
            return super()._apply(fn, recurse)
        exact = self._table
        super()._apply(fn, recurse)
        if self.mean.dtype != (precise := torch.promote_types(self.mean.dtype, torch.float32)):
            self.mean, self.var = (t.to(self.mean.device, precise) for t in (exact.mean, exact.var))
        if self.count.dtype != torch.int64:
            self.count = exact.count.to(self.count.device)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over a table of any length, or, if anything of it does not fit, leave the whole as it is and say why.

        The table keeps its length where it can: a shorter one is continued by its last row; with ``max_steps`` a longer
        one is cut, otherwise room is made for it.
        """
        spec = self.spec
        saved = {name: state_dict[prefix + name] for name in NAMES if prefix + name in state_dict}
        if isinstance(spec, BatchNorm) and saved:
            assign = local_metadata.get("assign_to_params_buffers", False)
            messages = misfits(saved, self._table, spec, prefix, assign)
            if messages:
                error_msgs += messages
                table = self._table
            else:
                table = prepared(saved)
                rows = max(room(spec, len(table.count)), 0 if spec.max_steps else len(self.count))
                self.lengthen(rows)
                table = resized(table, len(self.count))
                self._looked = False
            state_dict = {**state_dict, **{prefix + name: getattr(table, name) for name in saved}}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        over = self.spec.process_group if isinstance(self.spec, BatchNorm) else None
        return f"{self.size}, {self.spec}" + ("" if over is None else f", process_group={over!r}")


def warn_if_unset(sites: Iterable[Normalization]) -> None:
    """Warn, once a layer, that population statistics serve which no batch has entered.

    It takes part in no result: mean 0 and variance 1 serve, as in ``torch.nn.BatchNorm1d``.
    """
    unset = [site for site in sites if not site._looked and not site.takes_batch_statistics and site.is_unset()]
    if unset:
        warnings.warn(
            "this layer is in eval() and its population statistics were never set, so mean 0 and variance 1 serve: "
            "train it first, call bnrnn.estimate_population_statistics(model, batches), or evaluate under "
            "bnrnn.batch_statistics(model)",
            UserWarning,
            stacklevel=2,
        )
