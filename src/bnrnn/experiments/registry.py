"""All experiments by name."""

from __future__ import annotations

from typing import Any

from bnrnn.experiments.experiment import Experiment
from bnrnn.experiments.language.char_lm import CHAR_LM
from bnrnn.experiments.language.h2h import H2H
from bnrnn.experiments.language.ptb_char import PTB_CHAR
from bnrnn.experiments.language.ptb_word import PTB_WORD_LARGE, PTB_WORD_MEDIUM, PTB_WORD_SMALL
from bnrnn.experiments.language.text8 import TEXT8
from bnrnn.experiments.pixels.digits import DIGITS, DIGITS_PERMUTED
from bnrnn.experiments.pixels.pmnist import PMNIST, PMNIST_RELEASED
from bnrnn.experiments.pixels.smnist import SMNIST
from bnrnn.experiments.reading.babi import BABI
from bnrnn.experiments.reading.cnn import CNN_FULL, CNN_TOP4
from bnrnn.experiments.reading.friends import FRIENDS_CLOZE
from bnrnn.experiments.speech.spoken_digits import SPOKEN_DIGITS
from bnrnn.experiments.speech.wsj import WSJ
from bnrnn.training import RunError, Task

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        DIGITS,
        DIGITS_PERMUTED,
        SMNIST,
        PMNIST,
        PMNIST_RELEASED,
        PTB_CHAR,
        TEXT8,
        PTB_WORD_SMALL,
        PTB_WORD_MEDIUM,
        PTB_WORD_LARGE,
        CNN_TOP4,
        CNN_FULL,
        FRIENDS_CLOZE,
        BABI,
        H2H,
        CHAR_LM,
        SPOKEN_DIGITS,
        WSJ,
    )
}


def find(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        RunError: there is none.
    """
    if name not in EXPERIMENTS:
        raise RunError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def build_task(name: str, config: Any) -> Task:
    """The task of a config of the experiment of a name; another process can be given it with its arguments."""
    return find(name).build(config)
