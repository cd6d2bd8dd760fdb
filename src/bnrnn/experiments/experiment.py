"""What an experiment is: a config, the task it builds, and where it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from bnrnn.experiments.trained import Trained
from bnrnn.training import RunError, Statistics, Task


@dataclass(frozen=True)
class Judgement:
    """What a report has to know of an experiment.

    Args:
        headline: the validation metric that its runs are judged by.
        better: whether the lower or the higher value is.
        axis: the metric in words, for a figure's axis.
        figure: the key of the papers' numbers in ``figures/paper_curves.json``; a function where it depends on the
            config. None: the papers have none.
        defaults: options that must be as by default for the papers' numbers to stand beside a run's.
        obstacle: why they cannot stand beside a config's, None where they can; beside what ``defaults`` says.
        variant: which of the papers' models a config is; the norm's name where this is None.
        group: what a config's curves share a picture by, beside the experiment.
        training: the metric of the training rows that is drawn; the papers' or the loss where this is None.
        also: further metrics for the tables.
        statistics: those that the headline is taken with.
    """

    headline: str
    better: Literal["lower", "higher"]
    axis: str
    figure: str | Callable[[Any], str | None] | None = None
    defaults: tuple[str, ...] = ("cell", "units", "batch_size")
    obstacle: Callable[[Any], str | None] = lambda config: None
    variant: Callable[[Any], str] | None = None
    group: Callable[[Any], str] | None = None
    training: str | None = None
    also: tuple[str, ...] = ()
    statistics: Statistics = "batch"


@dataclass(frozen=True)
class Experiment:
    """One experiment of the papers.

    Args:
        name: what the command line calls it.
        summary: one line.
        paper: which paper and section.
        target: the table or figure it belongs to.
        data: the data set's name, as ``bnrnn data`` has it.
        cost: what the full length costs.
        config: the default options, an instance of a frozen dataclass.
        build: makes the task of a config.
        trained: makes of a config and a run's parameters a model that they fit, without data.
        judgement: how a report judges its runs.
        label: names a config, for folders and legends; by default cell, norm and seed.
        named: the options that the label tells of.
    """

    name: str
    summary: str
    paper: str
    target: str
    data: str
    cost: str
    config: Any
    build: Callable[[Any], Task]
    trained: Callable[[Any, dict[str, Tensor]], Trained]
    judgement: Judgement
    label: Callable[[Any], str] = lambda config: f"{config.cell}-{config.norm}-seed{config.seed}"
    named: tuple[str, ...] = ("cell", "norm", "seed")

    def describe(self, config: Any) -> dict[str, Any]:
        """The run folder's ``config.json``: enough for a report, and for :meth:`restore`."""
        defaults, options = _options(self.config), _options(config)
        changed = {name: value for name, value in options.items() if value != defaults[name]}
        return {
            "experiment": self.name,
            "label": self.label(config),
            "summary": self.summary,
            "paper": self.paper,
            "target": self.target,
            "report": self._report(config, changed),
            "evaluation_options": list(config.evaluation_options),
            "changed": changed,
            "config": options,
        }

    def _report(self, config: Any, changed: dict[str, Any]) -> dict[str, Any]:
        judgement = self.judgement
        figure = judgement.figure(config) if callable(judgement.figure) else judgement.figure
        reasons = [
            f"{name} is {value}, in the paper {getattr(self.config, name)}"
            for name, value in changed.items()
            if name in judgement.defaults
        ]
        if (obstacle := judgement.obstacle(config)) is not None:
            reasons.append(obstacle)
        if figure is None:
            reasons.insert(0, "it is not in the papers")
        told = {*self.named, *type(config).EVALUATION, "epochs", "backend"}
        chosen = {"variant": judgement.variant, "group": judgement.group}
        return {
            **{name: choose(config) for name, choose in chosen.items() if choose is not None},
            **({"training": judgement.training} if judgement.training else {}),
            **({"also": list(judgement.also)} if judgement.also else {}),
            "headline": judgement.headline,
            "better": judgement.better,
            "axis": judgement.axis,
            "statistics": judgement.statistics,
            "comparable": "; ".join(reasons) or True,
            "figure": figure,
            "options": [name for name in changed if name not in told],
        }

    def restore(self, described: dict[str, Any]) -> Any:
        """The config that :meth:`describe` wrote, in this version or an earlier one.

        Options that came later have the values that the older run was made with.

        Raises:
            RunError: it has options that this version does not know, or values that it refuses.
        """
        try:
            options = {
                name: tuple(value) if isinstance(value, list) else value for name, value in described["config"].items()
            }
            return type(self.config)(**{**dataclasses.asdict(self.config), **type(self.config).EARLIER, **options})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"the run's config does not fit experiment {self.name} of this version ({error})") from error

    def upgrade(self, described: dict[str, Any]) -> dict[str, Any]:
        """A ``config.json`` of an earlier version as this one writes it; what only the run knows is kept.

        Raises:
            RunError: see :meth:`restore`.
        """
        return {**described, **self.describe(self.restore(described))}


def _options(config: Any) -> dict[str, Any]:
    """A config as JSON has it."""
    options = dataclasses.asdict(config)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
