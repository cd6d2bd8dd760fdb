"""The CNN corpus: the four best sentences of each passage, and whole passages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bnrnn.data import cnn
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.reading.config import NAMES, ReadingConfig, Setting, Source
from bnrnn.experiments.reading.model import Variant
from bnrnn.experiments.reading.task import ReadingTask
from bnrnn.experiments.reading.trained import trained


@dataclass(frozen=True)
class Top4Config(ReadingConfig):
    """Options of the CNN questions on the four sentences that match best."""

    sentences: int = 4
    """Read only the sentences that match the question best, so many; 0: the whole passage."""

    SETTINGS: ClassVar[dict[tuple[Variant, Source], Setting]] = {
        ("lstm", "default"): Setting(240, 8e-5, 64, updates=801_000),
        ("bn-lstm", "default"): Setting(240, 8e-5, 64, updates=322_000),
        ("bn-everywhere", "default"): Setting(240, 8e-5, 64, updates=250_000),
        ("bn-e-star", "default"): Setting(240, 8e-4, 40, updates=550_000),
        ("bn-e-star-star", "default"): Setting(240, 8e-4, 40, bidirectional=True, updates=337_000),
        ("bn-e-star-star", "code"): Setting(240, 8e-5, 64, bidirectional=True, updates=337_000),
    }


@dataclass(frozen=True)
class FullConfig(ReadingConfig):
    """Options of the CNN questions on whole passages."""

    bucket: int = 12
    """Sort the questions of so many batches by length, the longest first, and cut the batches from that."""

    SETTINGS: ClassVar[dict[tuple[Variant, Source], Setting]] = {
        ("lstm", "default"): Setting(280, 8e-5, 64, bidirectional=True, mean_passage=False, updates=409_000),
        ("lstm", "text"): Setting(240, 8e-5, 64, mean_passage=False, updates=409_000),
        ("bn-lstm", "default"): Setting(240, 8e-5, 64, updates=409_000),
        ("bn-everywhere", "default"): Setting(240, 8e-5, 64, updates=409_000),
        ("bn-e-star", "default"): Setting(240, 8e-4, 40, updates=409_000),
        ("bn-e-star-star", "default"): Setting(120, 8e-4, 40, bidirectional=True, updates=88_000),
        ("bn-e-star-star", "code"): Setting(120, 8e-4, 64, updates=88_000),
    }


def _obstacle(config: ReadingConfig) -> str | None:
    own = ("units", "learning_rate", "batch_size", "bidirectional", "mean_passage", "evaluation_batch_size")
    reasons = [
        f"{name} is {getattr(config, name)}, in the paper {expected}"
        for name in own
        if getattr(config, name) not in (None, expected := replace(config, **{name: None}).own(name))
    ]
    if config.masked and config.variant in ("bn-lstm", "bn-everywhere"):
        reasons.append("padding enters no statistics, in the paper it does")
    return "; ".join(reasons) or None


_DEFAULTS = (
    "sentences",
    "longest",
    "shuffle",
    "sampling",
    "similarity",
    "dropout",
    "gamma",
    "bucket",
    "padding",
    "masked",
)


def _judgement(figure: str) -> Judgement:
    return Judgement(
        headline="error",
        better="lower",
        axis="validation error rate",
        figure=figure,
        defaults=_DEFAULTS,
        obstacle=_obstacle,
        variant=lambda config: NAMES[config.variant],
        training="error",
    )


def label(config: ReadingConfig) -> str:
    """A run's name: its variant and seed."""
    source = "" if config.settings == "default" else f"-{config.settings}"
    return f"{config.variant}{source}-seed{config.seed}"


CNN_TOP4 = Experiment(
    name="cnn-top4",
    summary="CNN questions on the four sentences of each passage that match best, Attentive Reader",
    paper="Cooijmans et al. 2017, 5.4",
    target="Figure 5a",
    data="cnn (prepare it: bnrnn data prepare cnn --from cnn.tgz)",
    cost="250,000 to 801,000 updates; days on 2 cores",
    config=Top4Config(),
    build=lambda config: ReadingTask(config, cnn.load()),
    trained=trained,
    judgement=_judgement("cnn-top4"),
    label=label,
    named=("variant", "settings", "seed"),
)

CNN_FULL = Experiment(
    name="cnn-full",
    summary="CNN questions on whole passages, Attentive Reader",
    paper="Cooijmans et al. 2017, 5.4",
    target="Figure 5b; Table 4",
    data="cnn (prepare it: bnrnn data prepare cnn --from cnn.tgz)",
    cost="88,000 to 409,000 updates; weeks on 2 cores",
    config=FullConfig(),
    build=lambda config: ReadingTask(config, cnn.load()),
    trained=trained,
    judgement=_judgement("cnn-full"),
    label=label,
    named=("variant", "settings", "seed"),
)
