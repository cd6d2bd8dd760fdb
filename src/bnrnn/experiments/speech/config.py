"""The options of the speech experiments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from bnrnn.data.kaldi.alignments import TargetKind
from bnrnn.data.kaldi.directory import Cmvn, Reading
from bnrnn.experiments.config import Config
from bnrnn.experiments.norms import NormName
from bnrnn.training import Statistics


@dataclass(frozen=True)
class SpeechConfig(Config):
    """Options of the speech experiments; the paper's where nothing else is said.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    norm: NormName = "none"
    """Normalization; "input-sequence" is the paper's, "none" its baseline."""
    units: int = 250
    """Hidden units of a layer in each direction."""
    layers: int = 5
    """Bidirectional layers."""
    epochs: int = 20
    """Length of the run."""
    batch_size: int = 24
    """Utterances in an update."""
    learning_rate: float = 1e-4
    """Step size of SGD."""
    momentum: float = 0.9
    """Of SGD."""
    clip: float | None = None
    """Largest global gradient norm; the paper has none."""
    loss: Literal["frame", "sequence"] = "frame"
    """What is descended: the mean cross-entropy of a frame, or of an utterance, summed over its frames. The paper does
    not say; by utterance, steps are as many times larger as an utterance has frames."""
    dropout: float = 0.0
    """Probability of dropping an output between the layers."""
    recurrent_dropout: float = 0.0
    """Probability of dropping a unit in the recurrence, one mask for all steps of an utterance."""
    zoneout: float = 0.0
    """Probability of keeping a unit's state from the frame before."""
    max_frames: int | None = 1300
    """Longer training utterances are left out and counted; None for none."""
    max_padding: float = 0.05
    """Largest share of padding among the frames of all batches."""
    length_tolerance: int = 0
    """Frames by which features and targets of an utterance may differ; the longer is cut."""
    skip_bad: bool = False
    """Leave bad utterances out and count them, in place of an error."""
    worker: bool = True
    """Build the batches in a process of their own."""
    selection: Literal["fce", "fer"] = "fce"
    """Validation metric that chooses the model: frame cross-entropy or frame error rate."""
    selection_statistics: Statistics = "population"
    """Statistics that the model is chosen with."""
    evaluate_every: int = 250
    """Updates between evaluations; 0: once an epoch."""
    evaluation_batch_size: int = 24
    """Utterances in a batch of every evaluation: what its batch statistics are taken over."""
    population_batches: int = 50
    """Training batches that the population statistics are averaged over; 0: all."""

    LEAST: ClassVar = {
        **Config.LEAST,
        "layers": 1,
        "max_frames": 1,
        "length_tolerance": 0,
        "evaluation_batch_size": 1,
        "population_batches": 0,
    }
    ROWS: ClassVar = (*Config.ROWS, "evaluation_batch_size")
    EVALUATION: ClassVar = (*Config.EVALUATION, "selection", "evaluation_batch_size", "population_batches", "worker")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("momentum", "dropout", "recurrent_dropout", "zoneout", "max_padding"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True)
class KaldiConfig(SpeechConfig):
    """Options of an experiment on a Kaldi data directory.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    data: str = ""
    """Kaldi data directory of the training part: feats.scp, or wav.scp with or without segments."""
    alignments: str = ""
    """Its targets: a folder of ali.*.gz with final.mdl, an archive of integers, or a text with a symbol a frame."""
    valid_data: str = ""
    """Kaldi data directory of the development part; without it one utterance in "hold_out" of the training part is."""
    valid_alignments: str = ""
    """Its targets; where not given they are looked for among the training part's."""
    hold_out: int = 20
    """Without a development directory: every so many-th utterance, by a digest of its name, is for development."""
    targets: TargetKind = "pdf"
    """What transition ids are turned into: clustered states ("pdf") or phones."""
    model: str = ""
    """Transition model of the alignments; by default the final.mdl beside them."""
    target_count: int | None = None
    """Number of targets, for archives of integers; by default one more than the largest of the training part."""
    cmvn: Cmvn = "mean-variance"
    """How cmvn.scp is used, by speaker or utterance as it has them: not at all, for the mean, the variance too."""
    deltas: int = 2
    """Order of the differences added to the features."""
    rewrite: str = ""
    """OLD=NEW: the start OLD of every path in the lists becomes NEW."""
    allow_pipes: bool = False
    """Run the commands that stand in place of files in the lists."""

    LEAST: ClassVar = {**SpeechConfig.LEAST, "hold_out": 2, "target_count": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.reading

    @property
    def reading(self) -> Reading:
        """How a data directory is read."""
        return Reading(self.cmvn, self.deltas, self.rewrite, self.allow_pipes)

    @property
    def transition_model(self) -> Path | None:
        return Path(self.model) if self.model else None
