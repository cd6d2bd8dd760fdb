"""Training: the loop, its optimisers, evaluation with batch and with population statistics, checkpoints, metrics."""

from bnrnn.training.checkpoint import RunError
from bnrnn.training.folder import RunFolder
from bnrnn.training.loop import DivergenceError, InterruptionError, Options, train
from bnrnn.training.optimizers import Adam, RMSProp, clip_gradients
from bnrnn.training.seeding import Purpose, generator, seed_of
from bnrnn.training.task import Carry, Metrics, Plan, Split, Statistics, Step, Task

__all__ = [
    "Adam",
    "Carry",
    "DivergenceError",
    "InterruptionError",
    "Metrics",
    "Options",
    "Plan",
    "Purpose",
    "RMSProp",
    "RunError",
    "RunFolder",
    "Split",
    "Statistics",
    "Step",
    "Task",
    "clip_gradients",
    "generator",
    "seed_of",
    "train",
]
