"""The character model on a text of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from bnrnn.data import text
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask


@dataclass(frozen=True)
class TextConfig(CharacterConfig):
    """Options of a character model on texts of one's own."""

    text: tuple[str, ...] = ()
    """UTF-8 files, read as one text in this order."""
    valid_share: float = 0.05
    """Share of the text for validation."""
    test_share: float = 0.05
    """Share of the text for the test, cut from its end."""
    min_count: int = 1
    """Characters that occur less often in the training part count as unknown."""


def _build(config: TextConfig) -> CharacterTask:
    if not config.text:
        raise ValueError("text must name at least one file: --text FILE")
    corpus = text.load(config.text, valid=config.valid_share, test=config.test_share, min_count=config.min_count)
    return CharacterTask(config, corpus, test_lengths=(1000,))


CHAR_LM = Experiment(
    name="char-lm",
    summary="A character model of any UTF-8 text, for `bnrnn sample`",
    paper="after Cooijmans et al. 2017, 5.2",
    target="not in the papers",
    data="files of yours",
    cost="depends on the text",
    config=TextConfig(units=512),
    build=_build,
    judgement=Judgement("bpc", "lower", "validation bits per character"),
)
