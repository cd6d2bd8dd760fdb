"""Character-level Penn Treebank."""

from __future__ import annotations

from dataclasses import dataclass

from bnrnn.data import ptb
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.language.characters import AS_PUBLISHED, CharacterConfig, CharacterTask
from bnrnn.experiments.language.trained import trained


@dataclass(frozen=True)
class PtbCharacterConfig(CharacterConfig):
    """Options of the character-level Penn Treebank."""

    convention: ptb.CharacterConvention = "paper"
    """Which characters of the word-level files count; see the data module."""


PTB_CHAR = Experiment(
    name="ptb-char",
    summary="Penn Treebank by characters, sequences of 100, 50 symbols",
    paper="Cooijmans et al. 2017, 5.2",
    target="Table 2; Figure 4a; Figure 4b by `bnrnn figure lengths`",
    data="ptb",
    cost="15,820 updates; 5 to 12 h on 2 cores",
    config=PtbCharacterConfig(),
    build=lambda config: CharacterTask(config, ptb.characters(config.convention), test_lengths=(1000,)),
    trained=trained,
    judgement=Judgement(
        "bpc",
        "lower",
        "validation bits per character",
        figure="ptb-char",
        defaults=(*AS_PUBLISHED, "convention"),
    ),
)
