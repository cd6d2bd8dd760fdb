"""The options of the reading experiments, and what each variant's are in the paper and in its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bnrnn.experiments.config import BaseConfig
from bnrnn.experiments.reading.batches import Padding
from bnrnn.experiments.reading.model import SEQUENCE, VARIANTS, Architecture, Variant

Source = Literal["default", "text", "code"]

NAMES: dict[Variant, str] = {
    "lstm": "LSTM",
    "bn-lstm": "BN-LSTM",
    "bn-everywhere": "BN-everywhere",
    "bn-e-star": "BN-e*",
    "bn-e-star-star": "BN-e**",
}
"""What the paper calls the variants."""


@dataclass(frozen=True)
class Setting:
    """What differs between the variants.

    Args:
        units, learning_rate, batch_size, bidirectional, mean_passage: as in :class:`ReadingConfig`.
        updates: how far the paper's curve goes.
    """

    units: int
    learning_rate: float
    batch_size: int
    bidirectional: bool = False
    mean_passage: bool = True
    updates: int = 800_000


@dataclass(frozen=True)
class ReadingConfig(BaseConfig):
    """Options of the reading experiments. None stands for the variant's own value.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    variant: Variant = "bn-e-star-star"
    """What is normalized: nothing; the LSTMs; every affine map too; with the input over whole sequences; and with both
    directions."""
    settings: Source = "default"
    """Where the variant's values come from that the paper's text and its released code tell differently: "default" is
    the text where it has a number, else the code."""
    units: int | None = None
    """Hidden units of a direction, and features of a word."""
    learning_rate: float | None = None
    """Step size of Adam."""
    batch_size: int | None = None
    """Questions in an update."""
    updates: int | None = None
    """Length of the run; the paper's curves end between 88,000 and 801,000."""
    bidirectional: bool | None = None
    """Whether the LSTMs read backwards as well."""
    similarity: bool = True
    """The bilinear term in the attention."""
    mean_passage: bool | None = None
    """The mean passage state in the read-out."""
    dropout: float = 0.5
    """On the embedded words and on the read-out."""
    gamma: float = 0.1
    """Initial gain of every batch normalization."""
    clip: float = 10.0
    """Largest global gradient norm."""
    clip_rule: Literal["norm", "released"] = "norm"
    """"released": the released code's rule, which acts above the square of the limit only and then leaves the limit
    times the root of the norm."""
    sentences: int = 0
    """Read only the sentences that match the question best, so many; 0: the whole passage."""
    longest: int = 0
    """Read so many words of that at most; 0: all."""
    sampling: Literal["replacement", "order"] = "replacement"
    """Draw training questions with replacement (text), or take them in the order of the data (released code, top4)."""
    shuffle: Literal["text", "batch", "none"] = "text"
    """Exchange the markers of names at random, anew for each text (text), for each batch (released code, top4), or
    not (released code, full)."""
    bucket: int = 1
    """Sort the questions of so many batches by length, the longest first, and cut the batches from that."""
    padding: Padding | None = None
    """What follows a short text: itself again ("repeat", the default of BN-e* and BN-e**), or zeros. With masked it
    enters nothing."""
    masked: bool = True
    """Keep padding out of all statistics. If not, it enters those of every step, as in the released code of the
    paper's first version; one direction only."""
    equal_blocks: bool = True
    """Weights of equal shape start equal, as in the released code, which seeds every draw alike."""
    selection: Literal["error", "loss"] = "error"
    """Validation metric that chooses the model."""
    evaluation_batch_size: int | None = None
    """Questions in a batch of every evaluation; None: those of an update."""
    population_batch_size: int | None = None
    """Questions in a batch of the pass that estimates the population statistics; None: those of an update."""
    population_batches: int = 0
    """Batches of that pass, drawn once; 0: all of the training part."""
    valid_questions: int = 0
    """Validation questions that an evaluation takes, drawn once; 0: all."""
    evaluate_every: int = 1000
    """Updates between evaluations."""

    LEAST: ClassVar[dict[str, int]] = {
        **BaseConfig.LEAST,
        "units": 1,
        "batch_size": 2,
        "updates": 1,
        "bucket": 1,
        "sentences": 0,
        "longest": 0,
        "evaluation_batch_size": 1,
        "population_batch_size": 1,
        "population_batches": 0,
        "valid_questions": 0,
        "evaluate_every": 1,
    }
    POSITIVE: ClassVar[tuple[str, ...]] = (*BaseConfig.POSITIVE, "learning_rate", "gamma")
    EVALUATION: ClassVar[tuple[str, ...]] = (
        *BaseConfig.EVALUATION,
        "selection",
        "evaluation_batch_size",
        "population_batch_size",
        "population_batches",
        "valid_questions",
    )
    SETTINGS: ClassVar[dict[tuple[Variant, Source], Setting]] = {}
    """What a kind of data has for each variant and source; ``"default"`` stands in for a source that is not there."""

    BY_LINE: ClassVar[bool] = False
    """Whether a sentence of a passage is a line of its text, instead of ending at a full stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.variant != "lstm":
            for name in ("evaluation_batch_size", "population_batch_size"):
                if getattr(self, name) == 1:
                    raise ValueError(f"{name} must be at least 2 with batch normalization, got 1")
        if not self.masked and self.own("bidirectional"):
            raise ValueError("masked must be on with both directions: the reversed one would begin in the padding")

    def own(self, name: str) -> Any:
        """An option, or the variant's value where the option is None."""
        value = getattr(self, name)
        if value is not None:
            return value
        if name == "padding":
            return "repeat" if self.variant in SEQUENCE else "zeros"
        if name in ("evaluation_batch_size", "population_batch_size"):
            return self.own("batch_size")
        return getattr(self.setting, name)

    @property
    def setting(self) -> Setting:
        """The variant's values."""
        table = self.SETTINGS
        return table.get((self.variant, self.settings)) or table[self.variant, "default"]

    @property
    def architecture(self) -> Architecture:
        return Architecture(
            variant=self.variant,
            units=self.own("units"),
            bidirectional=self.own("bidirectional"),
            similarity=self.similarity,
            mean_passage=self.own("mean_passage"),
            dropout=self.dropout,
            gamma=self.gamma,
            masked=self.masked,
            equal_blocks=self.equal_blocks,
            backend=self.backend,
        )
