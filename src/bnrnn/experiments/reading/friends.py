"""Cloze questions over dialogues, which everyone can get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bnrnn.data import friends
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.reading.cnn import label
from bnrnn.experiments.reading.config import NAMES, ReadingConfig, Setting, Source
from bnrnn.experiments.reading.model import Variant
from bnrnn.experiments.reading.task import ReadingTask
from bnrnn.experiments.reading.trained import trained


@dataclass(frozen=True)
class FriendsConfig(ReadingConfig):
    """Options of the Friends cloze questions, at a size that a CPU carries; one step size for all variants."""

    updates: int | None = 1500
    """Length of the run."""
    sentences: int = 4
    """Read only the utterances that match the question best, so many; 0: the whole dialogue."""
    longest: int = 160
    """Read so many words of that at most; 0: all."""
    evaluate_every: int = 100
    """Updates between evaluations."""

    BY_LINE: ClassVar[bool] = True
    SETTINGS: ClassVar[dict[tuple[Variant, Source], Setting]] = {
        ("lstm", "default"): Setting(48, 2e-3, 40),
        ("bn-lstm", "default"): Setting(48, 2e-3, 40),
        ("bn-everywhere", "default"): Setting(48, 2e-3, 40),
        ("bn-e-star", "default"): Setting(48, 2e-3, 40),
        ("bn-e-star-star", "default"): Setting(48, 2e-3, 40, bidirectional=True),
    }


FRIENDS_CLOZE = Experiment(
    name="friends-cloze",
    summary="Cloze questions on dialogues of Friends, Attentive Reader; 1,100 training questions",
    paper="after Cooijmans et al. 2017, 5.4",
    target="not in the papers",
    data="qa",
    cost="1,500 updates; minutes on a core",
    config=FriendsConfig(),
    build=lambda config: ReadingTask(config, friends.load()),
    trained=trained,
    judgement=Judgement(
        headline="error",
        better="lower",
        axis="validation error rate",
        variant=lambda config: NAMES[config.variant],
        training="error",
    ),
    label=label,
    named=("variant", "settings", "seed"),
)
