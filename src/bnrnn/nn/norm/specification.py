"""What a user says about a normalization: where, and over what."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from bnrnn.nn.norm.groups import check_group
from bnrnn.nn.values import finite, integer

Over = Literal["frame", "sequence"]
"""What batch statistics are taken over: the rows of each time step, or all rows and steps together."""


def _set(spec: object, **values: object) -> None:
    """Put checked values into a frozen dataclass."""
    for name, value in values.items():
        object.__setattr__(spec, name, value)


@dataclass(frozen=True)
class BatchNorm:
    r"""Batch normalization at one site.

    .. math:: \mathrm{BN}(x) = \gamma \odot \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}

    with the biased variance and gradients through both statistics (Cooijmans et al. 2017, eq. 5). There is no offset
    of its own: on the pre-activations the layer's one bias takes that part, and the site ``cell`` has a learnt
    :math:`\beta_c` (eq. 8).

    Args:
        statistics: ``"frame"``: over the valid rows of the batch, separately at each time step; population statistics
            are kept for each step. ``"sequence"``: over the valid rows and steps together, only at the site ``input``.
            It looks ahead in time, so it leaks the future into a language model.
        gamma: what the learnt gain starts from. 0.1 for anything inside the recurrence: 1 makes gradients vanish
            (Cooijmans et al. 2017, section 4).
        eps: added to the variance.
        momentum: weight of the newest batch in the running averages. While a step has seen fewer than
            ``1 / momentum`` batches its average is the plain mean. None: always the plain mean.
        max_steps: length of the table of population statistics, for steps 0 to ``max_steps - 1``. None: it has room for
            64 steps and doubles when training sees a longer sequence. Steps beyond the longest one trained, or beyond
            the table, use the last row in use. Give it where the shape of buffers must not change: under
            DistributedDataParallel, in shared memory, for averages of models.
        min_rows: the least number of valid rows that frame-wise statistics are taken of. A later step with fewer
            takes over the statistics of the last step that had enough, without a gradient through them.
        process_group: over whose processes' rows together batch statistics are taken: a
            ``torch.distributed.ProcessGroup``, or ``"world"`` for the default group, whichever that is at a call. None:
            each process takes those of its own rows. :func:`bnrnn.synchronize` sets it in a whole model.

    Raises:
        ValueError, TypeError: an argument outside what is allowed.
    """

    statistics: Over = "frame"
    gamma: float = 0.1
    eps: float = 1e-5
    momentum: float | None = 0.1
    max_steps: int | None = None
    min_rows: int = 2
    process_group: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.statistics not in ("frame", "sequence"):
            raise ValueError(f"BatchNorm: statistics must be 'frame' or 'sequence', got {self.statistics!r}")
        _set(self, gamma=finite("BatchNorm: gamma", self.gamma))
        _set(self, eps=finite("BatchNorm: eps", self.eps, positive=True))
        if self.momentum is not None:
            _set(self, momentum=finite("BatchNorm: momentum", self.momentum, positive=True))
            if self.momentum > 1:
                raise ValueError(f"BatchNorm: momentum must be in (0, 1] or None, got {self.momentum!r}")
        for name, least in (("max_steps", 1), ("min_rows", 2)):
            value = getattr(self, name)
            if name == "max_steps" and value is None:
                continue
            value = integer(f"BatchNorm: {name}", value)
            if value < least:
                raise ValueError(f"BatchNorm: {name} must be at least {least}, got {value!r}")
            _set(self, **{name: value})
        if self.max_steps is not None and self.statistics == "sequence":
            raise ValueError("BatchNorm: max_steps belongs to statistics='frame'; 'sequence' keeps one row")
        check_group("BatchNorm: process_group", self.process_group)

    def __deepcopy__(self, memo: object) -> BatchNorm:
        """Itself: nothing in it changes, and a process group cannot be copied."""
        return self


@dataclass(frozen=True)
class LayerNorm:
    r"""Layer normalization at one site: the statistics of one row over its features (Ba et al. 2016).

    All gates of an LSTM are one group of features; a GRU's two gates and its candidate are two. Like
    :class:`BatchNorm`, it has an offset of its own only at the site ``cell``.

    Args:
        gamma: what the learnt gain starts from.
        eps: added to the variance.

    Raises:
        ValueError, TypeError: an argument outside what is allowed.
    """

    gamma: float = 1.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _set(self, gamma=finite("LayerNorm: gamma", self.gamma))
        _set(self, eps=finite("LayerNorm: eps", self.eps, positive=True))


@dataclass(frozen=True)
class Shift:
    r"""No normalization, only a learnt offset :math:`x + \beta`, at the site ``cell``.

    The baseline of Cooijmans et al.'s released code has it: the BN-LSTM's graph with each BN replaced by its offset.
    """


SiteNorm: TypeAlias = "BatchNorm | LayerNorm | Shift"


@dataclass(frozen=True)
class Norm:
    r"""Which quantities of a recurrent layer are normalized, and how.

    Args:
        input: :math:`W_{ih} x_t`.
        recurrent: :math:`W_{hh} h_{t-1}`.
        summed: their sum. It excludes the two above.
        cell: :math:`c_t`, only inside the output's tanh; the carried cell stays raw. LSTM only.

    Raises:
        TypeError: a site holds something other than a :class:`BatchNorm`, :class:`LayerNorm` or :class:`Shift`.
        ValueError: a combination that contradicts itself.
    """

    input: SiteNorm | None = None
    recurrent: SiteNorm | None = None
    summed: SiteNorm | None = None
    cell: SiteNorm | None = None

    def __post_init__(self) -> None:
        if not self.sites():
            raise ValueError("Norm: no site is normalized; use norm=None for a plain layer")
        for name, spec in self.sites().items():
            if not isinstance(spec, (BatchNorm, LayerNorm, Shift)):
                raise TypeError(f"Norm: {name} must be a BatchNorm, LayerNorm, Shift or None, got {spec!r}")
            if name != "input" and isinstance(spec, BatchNorm) and spec.statistics == "sequence":
                raise ValueError(
                    f"Norm: {name} cannot have statistics='sequence', since it is not known before the recurrence has "
                    "run; only input can"
                )
            if name != "cell" and isinstance(spec, Shift):
                raise ValueError(f"Norm: {name} cannot be a Shift, the layer's bias is one already; only cell can")
        if self.summed is not None and (self.input is not None or self.recurrent is not None):
            raise ValueError("Norm: summed normalizes the sum of input and recurrent; give either it or those")

    def sites(self) -> dict[str, SiteNorm]:
        """The normalized sites by name."""
        return {f.name: spec for f in fields(self) if (spec := getattr(self, f.name)) is not None}

    @property
    def looks_ahead(self) -> bool:
        """Whether outputs depend on later inputs: a site takes its statistics over the whole sequence."""
        return any(isinstance(spec, BatchNorm) and spec.statistics == "sequence" for spec in self.sites().values())


class Preset(Norm):
    """A :class:`Norm` for any cell: a GRU or RNN takes it without its site ``cell``."""
