"""The bAbI tasks as cloze questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bnrnn.data import babi
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.reading.cnn import label
from bnrnn.experiments.reading.config import NAMES, ReadingConfig, Setting, Source
from bnrnn.experiments.reading.model import Variant
from bnrnn.experiments.reading.task import ReadingTask
from bnrnn.experiments.reading.trained import trained


@dataclass(frozen=True)
class BabiConfig(ReadingConfig):
    """Options of a bAbI task, at a size that a CPU carries; one step size for all variants."""

    task: int = 1
    """Which of the 20 tasks; the file at hand lacks the training part of task 3."""
    updates: int | None = 3000
    """Length of the run."""
    evaluate_every: int = 100
    """Updates between evaluations."""
    population_batches: int = 100
    """Batches of the pass that estimates the population statistics, drawn once; 0: all of the training part."""

    SETTINGS: ClassVar[dict[tuple[Variant, Source], Setting]] = {
        ("lstm", "default"): Setting(48, 2e-3, 40),
        ("bn-lstm", "default"): Setting(48, 2e-3, 40),
        ("bn-everywhere", "default"): Setting(48, 2e-3, 40),
        ("bn-e-star", "default"): Setting(48, 2e-3, 40),
        ("bn-e-star-star", "default"): Setting(48, 2e-3, 40, bidirectional=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in babi.TASKS:
            raise ValueError(f"task must be 1 to {len(babi.TASKS)}, got {self.task}")


BABI = Experiment(
    name="babi",
    summary="A bAbI task as cloze questions, Attentive Reader; 9,000 training questions",
    paper="after Cooijmans et al. 2017, 5.4",
    target="not in the papers",
    data="qa",
    cost="3,000 updates; minutes on a core",
    config=BabiConfig(),
    build=lambda config: ReadingTask(config, babi.load(config.task)),
    trained=trained,
    judgement=Judgement(
        headline="error",
        better="lower",
        axis="validation error rate",
        variant=lambda config: NAMES[config.variant],
        training="error",
        group=lambda config: f"task {config.task}",
    ),
    label=lambda config: f"task{config.task}-{label(config)}",
    named=("variant", "settings", "seed", "task"),
)
