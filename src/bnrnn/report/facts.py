"""What a run's ``config.json`` says of how its runs are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NAMES = {
    "accuracy": "accuracy",
    "error": "error rate",
    "loss": "cross-entropy, nats",
    "bpc": "bits per character",
    "bpc_sequence": "bits per character, as one sequence",
    "perplexity": "perplexity",
    "batch_perplexity": "perplexity, mean over batches",
    "fce": "frame cross-entropy, nats",
    "fer": "frame error rate",
}
_HIGHER = frozenset({"accuracy"})


@dataclass(frozen=True)
class Facts:
    """How a run is judged, and which of the papers' numbers stand beside its own.

    Args:
        headline: the metric.
        better: which way of it is, ``"lower"`` or ``"higher"``.
        axis: its name for a figure's axis.
        statistics: those of the validation curve.
        obstacle: why the papers' numbers cannot stand beside the run's, None where they can.
        figure: their key in ``figures/paper_curves.json``, None where the papers have none.
        variant: which of the paper's models the run is of.
        options: the options that the label tells of.
        also: further metrics of the tables.
        training: the metric of the training rows to be drawn, None for that of the paper's figure.
        group: which of an experiment's tasks the run is of, None where it has one only.
    """

    headline: str
    better: str
    axis: str
    statistics: str
    obstacle: str | None
    figure: str | None
    variant: str
    options: tuple[str, ...]
    also: tuple[str, ...] = ()
    training: str | None = None
    group: str | None = None

    def is_better(self, metric: str, difference: float) -> bool:
        """Whether a difference in a metric is to the good."""
        own = metric == self.headline or metric.startswith(f"{self.headline}_")
        higher = self.better == "higher" if own else metric in _HIGHER
        return difference > 0 if higher else difference < 0


def metric_name(metric: str) -> str:
    """A metric in words: the name in the records is of no help to a reader."""
    stem, _, length = metric.rpartition("_")
    if length.isdigit() and stem:
        return f"{metric_name(stem)}, pieces of {int(length):,}"
    return _NAMES.get(metric, metric.replace("_", " "))


def facts_of(described: Mapping[str, Any], logged: frozenset[str]) -> Facts:
    """The facts in a ``config.json``.

    Args:
        described: its content.
        logged: the metrics that the run's evaluations have, for a folder of an earlier version that says nothing.
    """
    options = described["config"]
    variant = options.get("norm", "none")
    report = described.get("report")
    if report is None:
        return _earlier(described, logged, variant)
    comparable = report["comparable"]
    return Facts(
        headline=report["headline"],
        better=report["better"],
        axis=report["axis"],
        statistics=report["statistics"],
        obstacle=None if comparable is True else str(comparable),
        figure=report["figure"],
        variant=report.get("variant", variant),
        options=tuple(report["options"]),
        also=tuple(report.get("also", ())),
        training=report.get("training"),
        group=report.get("group"),
    )


def _earlier(described: Mapping[str, Any], logged: frozenset[str], variant: str) -> Facts:
    """Of a folder that an earlier version wrote: what its metrics tell, and nothing of the papers."""
    headline = next((name for name in ("bpc", "batch_perplexity", "accuracy", "error") if name in logged), "loss")
    named = ("cell", "norm", "seed", "epochs")
    return Facts(
        headline=headline,
        better="higher" if headline in _HIGHER else "lower",
        axis=f"validation {metric_name(headline)}",
        statistics="batch",
        obstacle="its config.json is of an earlier version; bnrnn record brings it to this one",
        figure=None,
        variant=variant,
        options=tuple(name for name in described.get("changed", {}) if name not in named),
    )
