"""A trained network's posteriors for a decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnrnn.data.kaldi.directory import KaldiDirectory, Reading
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.registry import DataError
from bnrnn.experiments.opened import OpenedRun
from bnrnn.experiments.speech.config import SpeechConfig
from bnrnn.experiments.speech.model import FrameClassifier
from bnrnn.training import RunError

IMPOSSIBLE = -1e10
"""The scaled log likelihood of a target that the training part never has: no path goes through it."""


class Scorer:
    """A run's network, on its own: neither its training data nor their alignments are needed.

    Args:
        run: an opened run of a speech experiment; its state is to have population statistics.

    Raises:
        RunError: the run is of another kind of experiment.
    """

    def __init__(self, run: OpenedRun) -> None:
        if not isinstance(run.config, SpeechConfig):
            raise RunError(f"{run.folder.path} is a run of {run.experiment.name}, which classifies no frames of speech")
        self.run = run
        self.model: FrameClassifier = run.model
        self.dimensions, self.classes = self.model.rnn.input_size, self.model.readout.out_features
        self.priors = self.model.priors.double().log().cpu()

    def __call__(self, features: np.ndarray, divide_by_priors: bool = False) -> np.ndarray:
        """Log posteriors of an utterance's frames, float32 ``(T, classes)``; or those less the targets' log priors,
        which are log likelihoods but for a constant of the frame.

        Raises:
            DataError: features of another dimension than the network's, none, or not finite.
        """
        if features.shape[1:] != (self.dimensions,) or len(features) == 0:
            raise DataError(
                f"the features have shape {features.shape}, and the network takes {self.dimensions} a frame"
            )
        if not np.isfinite(features).all():
            raise DataError("the features hold NaN or an infinite number")
        batch = torch.from_numpy(np.ascontiguousarray(features))[:, None].to(self.run.fabric.device)
        with torch.no_grad(), self.run.fabric.autocast():
            scores: Tensor = self.model(batch, torch.tensor([len(features)]))[:, 0].cpu()
        if divide_by_priors:
            scores = (scores.double() - self.priors).float()
            scores[:, self.priors.isinf()] = IMPOSSIBLE
        return scores.numpy()


def reading_of(config: Any, **changed: Any) -> Reading:
    """How a run's features were read, with what is said otherwise."""
    base = getattr(config, "reading", None) or Reading()
    return replace(base, **{name: value for name, value in changed.items() if value is not None})


def score(
    scorer: Scorer,
    directory: Path,
    reading: Reading,
    write: Callable[[str, np.ndarray], None],
    *,
    divide_by_priors: bool = False,
    skip_bad: bool = False,
) -> tuple[int, Findings]:
    """Writes the scores of every utterance of a directory, in its order and one at a time.

    Returns:
        How many were written, and which could not be.

    Raises:
        DataError: an utterance is bad and those are not to be left out.
    """
    findings = Findings()
    source = KaldiDirectory(directory, reading, findings)
    findings.settle(skip_bad)
    written = 0
    for name in source.names:
        try:
            scores = scorer(source.features(name), divide_by_priors)
        except DataError as error:
            findings.add(name, source.place(name), str(error), "unusable features")
            if not skip_bad:
                problem = findings.problems[-1]
                raise DataError(
                    f"{problem}; {written:,} utterances were written before it; --skip-bad goes on"
                ) from error
            continue
        write(name, scores)
        written += 1
    return written, findings
