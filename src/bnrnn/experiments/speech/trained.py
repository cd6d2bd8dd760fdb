"""A frame classifier without its utterances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bnrnn.experiments.speech.config import SpeechConfig
from bnrnn.experiments.speech.model import FrameClassifier
from bnrnn.experiments.trained import Trained


def trained(config: SpeechConfig, parameters: dict[str, Tensor]) -> Trained:
    """The network that a run's parameters fit. Its program has log posteriors ``(T, B, classes)`` of features
    ``(T, B, dimensions)`` with their lengths.
    """
    dimensions = parameters["rnn.weight_ih_l0"].shape[1]
    model = FrameClassifier(config, dimensions, len(parameters["readout.bias"]))

    def encode(utterances: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Features ``(T, dimensions)`` of one utterance or of each of several, as the run's experiment makes them."""
        found = [torch.as_tensor(one, dtype=torch.float32) for one in utterances]
        if found and found[0].dim() == 1:
            found = [torch.stack(found)]
        if not found or any(one.dim() != 2 or one.shape[1] != dimensions or not len(one) for one in found):
            shapes = [tuple(one.shape) for one in found]
            raise ValueError(f"utterances must have shape (T, {dimensions}) each, got {shapes}")
        return pad_sequence(found), torch.tensor([len(one) for one in found])

    def example(rows: int) -> tuple[Tensor, ...]:
        lengths = torch.randint(1, rows + 8, (rows,))
        lengths[0] = rows + 7
        return torch.randn(rows + 7, rows, dimensions), lengths

    inputs = {"features": {0: "steps", 1: "batch"}, "lengths": {0: "batch"}}
    return Trained(model, model, encode, inputs, ("log_posteriors",), example)
