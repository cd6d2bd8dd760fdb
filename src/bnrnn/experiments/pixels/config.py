"""The options of the pixel-by-pixel experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from bnrnn.experiments.config import Config
from bnrnn.experiments.initialization import RecurrentInit

Order = Literal["scan", "permuted", "with-replacement"]
InitialState = Literal["paper", "learnt", "noise", "noise-in-training", "mean-pixel"]


@dataclass(frozen=True)
class PixelConfig(Config):
    """Options of the pixel-by-pixel experiments. Where the paper's text and its released code differ, the default
    is the text; where the text is silent, the code.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    epochs: int = 200
    """Length of the run."""
    rho: float = 0.9
    """Decay rate of RMSProp's mean square: 0.9 (text), 0.5 (released scripts)."""
    recurrent_init: RecurrentInit = "identity-candidate"
    """Identity in the candidate block only (released code), in all blocks (text read literally), or nowhere."""
    forget_bias: float = 1.0
    """Initial bias of the LSTM's forget gate (released code); the text has none: 0."""
    cell_shift: bool = True
    """A learnt shift inside the baseline LSTM's output tanh, as the released code has it."""
    initial_state: InitialState = "paper"
    """Learnt, plus noise for each image ("noise"), in training only, or plus the mean pixel ("mean-pixel").
    "paper": noise for a batch-normalized layer on images in scan order, else learnt alone."""
    noise: float = 0.1
    """Standard deviation of that noise."""
    selection: Literal["error", "loss"] = "error"
    """Validation metric that chooses the model."""
    population_batch_size: int = 5000
    """Images in a batch of the pass that estimates the population statistics."""
    evaluation_batch_size: int = 100
    """Images in a batch of every evaluation: the rows of its batch statistics."""
    population_every: int = 5000
    """Updates between evaluations with population statistics as well; 0: at the end only."""

    LEAST: ClassVar = {**Config.LEAST, "population_batch_size": 1, "evaluation_batch_size": 1, "noise": 0}
    ROWS: ClassVar = (*Config.ROWS, "population_batch_size", "evaluation_batch_size")
    EVALUATION: ClassVar = (*Config.EVALUATION, "selection", "population_batch_size", "evaluation_batch_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rho < 1:
            raise ValueError(f"rho must be in [0, 1), got {self.rho}")
        if self.noise != PixelConfig.noise and self.initial_state in ("learnt", "mean-pixel"):
            raise ValueError(f"noise is that of another initial state than {self.initial_state!r}")


def initial_noise(config: PixelConfig, order: Order) -> float:
    """Standard deviation of the noise on the initial hidden state, 0 for none."""
    if config.initial_state == "paper":
        batch_normalized = config.norm not in ("none", "layer")
        return config.noise if batch_normalized and order == "scan" else 0.0
    return config.noise if config.initial_state in ("noise", "noise-in-training") else 0.0
