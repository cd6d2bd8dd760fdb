"""Random numbers as a pure function of what they are for.

No generator's state outlives an update: each update, each epoch's order and each evaluation starts its own
stream, seeded from the run's seed and its place in the run. So a resumed run draws what an undisturbed one would
have drawn, and evaluating more or less often does not change the training.
"""

from __future__ import annotations

import enum

import numpy as np
import torch


class Purpose(enum.IntEnum):
    """What a stream of random numbers is drawn for."""

    INITIALIZATION = 0
    ORDER = 1
    UPDATE = 2
    EVALUATION = 3
    POPULATION = 4


def seed_of(seed: int, purpose: Purpose, *place: int) -> int:
    """A 64-bit seed, the same for the same arguments and unrelated between different ones."""
    return int(np.random.SeedSequence((seed, int(purpose), *place)).generate_state(1, np.uint64)[0])


def generator(seed: int, purpose: Purpose, *place: int) -> torch.Generator:
    """A generator on the CPU at the start of its stream."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, *place))
