"""``bnrnn evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse

SUMMARY = "evaluate a run's model with batch and population statistics"


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run's model with batch and with population statistics, on the validation and the test part."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    model: Literal["best", "last"] = "best"
    """The selected model, or the one the run has come to."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""


def run(arguments: list[str]) -> int:
    chosen = parse(Evaluate, arguments, "bnrnn evaluate")
    from bnrnn.cli.output import print_evaluation
    from bnrnn.experiments.opened import evaluate_run

    opened, record = evaluate_run(chosen.run, chosen.model, chosen.device)
    label = opened.experiment.label(opened.config)
    title = f"{opened.experiment.name} {label}: {chosen.model} model, of update {opened.update:,}"
    print_evaluation(title, record["evaluation"])
    return 0
