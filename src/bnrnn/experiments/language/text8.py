"""Character-level text8."""

from __future__ import annotations

from dataclasses import dataclass

from bnrnn.data import text8
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.language.characters import AS_PUBLISHED, CharacterConfig, CharacterTask
from bnrnn.experiments.language.trained import trained


@dataclass(frozen=True)
class Text8Config(CharacterConfig):
    """Options of text8."""

    slice: int | None = None
    """Use the first so many characters only; the results are then of that slice."""


def _label(config: Text8Config) -> str:
    part = "" if config.slice is None else f"-slice{config.slice}"
    return f"{config.cell}-{config.norm}-seed{config.seed}{part}"


TEXT8 = Experiment(
    name="text8",
    summary="text8 by characters, sequences of 180, 27 symbols",
    paper="Cooijmans et al. 2017, 5.3",
    target="Table 3",
    data="text8",
    cost="195,350 updates at most; weeks on 2 cores",
    config=Text8Config(
        units=2000,
        epochs=50,
        batch_size=128,
        length=180,
        learning_rate=1e-3,
        population_batch_size=1000,
        evaluation_batch_size=128,
        evaluate_every=500,
        valid_pieces=10_000,
    ),
    build=lambda config: CharacterTask(config, text8.load(config.slice), test_lengths=(1000,)),
    trained=trained,
    judgement=Judgement(
        "bpc",
        "lower",
        "validation bits per character",
        figure="text8",
        defaults=AS_PUBLISHED,
        obstacle=lambda config: None if config.slice is None else f"the first {config.slice:,} characters only",
    ),
    label=_label,
    named=("cell", "norm", "seed", "slice"),
)
