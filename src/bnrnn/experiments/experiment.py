"""What an experiment is: a config, the task it builds, and where it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bnrnn.training import RunError, Task


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
        label: names a config, for folders and legends; by default cell, norm and seed.
    """

    name: str
    summary: str
    paper: str
    target: str
    data: str
    cost: str
    config: Any
    build: Callable[[Any], Task]
    label: Callable[[Any], str] = lambda config: f"{config.cell}-{config.norm}-seed{config.seed}"

    def describe(self, config: Any) -> dict[str, Any]:
        """The run folder's ``config.json``: enough for a report, and for :meth:`restore`."""
        defaults = dataclasses.asdict(self.config)
        options = dataclasses.asdict(config)
        return {
            "experiment": self.name,
            "label": self.label(config),
            "summary": self.summary,
            "paper": self.paper,
            "target": self.target,
            "changed": {name: value for name, value in options.items() if value != defaults[name]},
            "config": options,
        }

    def restore(self, described: dict[str, Any]) -> Any:
        """The config that :meth:`describe` wrote.

        Raises:
            RunError: it has other options than this version's.
        """
        try:
            options = {
                name: tuple(value) if isinstance(value, list) else value for name, value in described["config"].items()
            }
            return type(self.config)(**options)
        except (TypeError, KeyError) as error:
            raise RunError(f"the run's config does not fit experiment {self.name} of this version ({error})") from error
