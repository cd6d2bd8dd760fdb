"""``bnrnn list``."""

from __future__ import annotations

from dataclasses import dataclass

from bnrnn.cli.parsing import parse

SUMMARY = "show every experiment and the results that exist"


@dataclass(frozen=True)
class List:
    """Show every experiment: where it comes from, its data, its cost, and the results that exist."""


def run(arguments: list[str]) -> int:
    parse(List, arguments, "bnrnn list")
    from bnrnn.experiments.registry import EXPERIMENTS
    from bnrnn.report.runs import find_runs

    results: dict[str, list[str]] = {name: [] for name in EXPERIMENTS}
    for found in find_runs():
        results.setdefault(found.experiment, []).append(found.brief())
    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name:<18}{experiment.summary}")
        print(f"{'':<18}{experiment.paper}: {experiment.target}")
        print(f"{'':<18}data: {experiment.data}; cost: {experiment.cost}")
        lines = results[experiment.name]
        print(f"{'':<18}results: {lines[0] if lines else 'none yet'}")
        for line in lines[1:]:
            print(f"{'':<27}{line}")
    return 0
