"""The character model on a text of one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bnrnn.data import text
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask
from bnrnn.experiments.language.trained import trained


@dataclass(frozen=True)
class TextConfig(CharacterConfig):
    """Options of a character model on texts of one's own."""

    text: tuple[str, ...] = ()
    """UTF-8 files, read as one text in this order; kept by their absolute paths."""
    valid_share: float = 0.05
    """Share of the text for validation."""
    test_share: float = 0.05
    """Share of the text for the test, cut from its end."""
    min_count: int = 1
    """Characters that occur less often in the training part count as unknown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "text", tuple(str(Path(file).expanduser().absolute()) for file in self.text))


def _build(config: TextConfig) -> CharacterTask:
    if not config.text:
        raise ValueError("text must name at least one file: --text FILE")
    corpus = text.load(config.text, valid=config.valid_share, test=config.test_share, min_count=config.min_count)
    return CharacterTask(config, corpus, test_lengths=(1000,))


def _label(config: TextConfig) -> str:
    """With the text, so that two texts have two folders."""
    text = "+".join(re.sub(r"[^\w.-]+", "-", Path(file).stem) for file in config.text)
    return f"{text[:60]}-{config.cell}-{config.norm}-seed{config.seed}"


CHAR_LM = Experiment(
    name="char-lm",
    summary="A character model of any UTF-8 text, for `bnrnn sample`",
    paper="after Cooijmans et al. 2017, 5.2",
    target="not in the papers",
    data="files of yours",
    cost="depends on the text",
    config=TextConfig(units=512),
    build=_build,
    trained=trained,
    judgement=Judgement("bpc", "lower", "validation bits per character"),
    label=_label,
    named=("cell", "norm", "seed", "text"),
)
