"""What a user says about a normalization: where, and over what."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

Statistics = Literal["frame", "sequence"]


def _check_number(owner: str, name: str, value: object, *, positive: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")
    if not math.isfinite(value) or (positive and value <= 0):
        allowed = "a finite number above 0" if positive else "a finite number"
        raise ValueError(f"{owner}: {name} must be {allowed}, got {value!r}")


def _check_count(owner: str, name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{owner}: {name} must be at least {least}, got {value!r}")


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
        max_steps: length of the table of population statistics. None: it grows with the longest sequence seen in
            training. Later steps use the last row. Give it under DistributedDataParallel, whose buffers must keep their
            shape.
        min_rows: the least number of valid rows that frame-wise statistics are taken of. A later step with fewer
            takes over the statistics of the last step that had enough, without a gradient through them.

    Raises:
        ValueError, TypeError: an argument outside what is allowed.
    """

    statistics: Statistics = "frame"
    gamma: float = 0.1
    eps: float = 1e-5
    momentum: float | None = 0.1
    max_steps: int | None = None
    min_rows: int = 2

    def __post_init__(self) -> None:
        if self.statistics not in ("frame", "sequence"):
            raise ValueError(f"BatchNorm: statistics must be 'frame' or 'sequence', got {self.statistics!r}")
        _check_number("BatchNorm", "gamma", self.gamma)
        _check_number("BatchNorm", "eps", self.eps, positive=True)
        if self.momentum is not None:
            _check_number("BatchNorm", "momentum", self.momentum, positive=True)
            if self.momentum > 1:
                raise ValueError(f"BatchNorm: momentum must be in (0, 1] or None, got {self.momentum!r}")
        if self.max_steps is not None:
            _check_count("BatchNorm", "max_steps", self.max_steps, 1)
            if self.statistics == "sequence":
                raise ValueError("BatchNorm: max_steps belongs to statistics='frame'; 'sequence' keeps one row")
        _check_count("BatchNorm", "min_rows", self.min_rows, 2)


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
        _check_number("LayerNorm", "gamma", self.gamma)
        _check_number("LayerNorm", "eps", self.eps, positive=True)


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


class Preset(Norm):
    """A :class:`Norm` for any cell: a GRU or RNN takes it without its site ``cell``."""
