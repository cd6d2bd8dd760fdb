"""All experiments by name."""

from __future__ import annotations

from bnrnn.experiments.digits import DIGITS, DIGITS_PERMUTED
from bnrnn.experiments.experiment import Experiment
from bnrnn.experiments.pmnist import PMNIST, PMNIST_RELEASED
from bnrnn.experiments.smnist import SMNIST
from bnrnn.training import RunError

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (DIGITS, DIGITS_PERMUTED, SMNIST, PMNIST, PMNIST_RELEASED)
}


def find(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        RunError: there is none.
    """
    if name not in EXPERIMENTS:
        raise RunError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
