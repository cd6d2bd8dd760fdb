"""A pixel classifier without its data."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnrnn.experiments.pixels.config import Order, PixelConfig, initial_noise
from bnrnn.experiments.pixels.model import PixelClassifier
from bnrnn.experiments.pixels.task import pixel_order
from bnrnn.experiments.trained import Trained

Data = Literal["mnist", "digits"]
PIXELS: dict[Data, tuple[int, int]] = {"mnist": (784, 255), "digits": (64, 16)}
"""How many pixels an image of a data set has, and the value of full ink."""


class PixelProgram(nn.Module):
    """Logits ``(B, classes)`` of images ``(B, pixels)`` in scan order, 0 to 1.

    The initial state is the learnt one, without the noise that some experiments add to it.
    """

    order: Tensor

    def __init__(self, model: PixelClassifier, order: Tensor) -> None:
        super().__init__()
        self.model = copy.copy(model)
        self.model.noise, self.model.chunk = 0.0, len(order)
        self.register_buffer("order", order)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images[:, self.order])


def trained(config: PixelConfig, parameters: dict[str, Tensor], data: Data, order: Order) -> Trained:
    """The classifier that a run's parameters fit."""
    pixels, maximum = PIXELS[data]
    model = PixelClassifier(config, initial_noise(config, order), len(parameters["readout.bias"]))

    def encode(images: Any) -> tuple[Tensor]:
        """Images ``(B, pixels)`` or ``(B, rows, columns)``: integers up to full ink, or numbers from 0 to 1."""
        images = torch.as_tensor(images)
        shown = images.reshape(len(images), -1)
        if shown.shape[1] != pixels:
            raise ValueError(f"images must have {pixels} pixels, got shape {tuple(images.shape)}")
        return (shown.float() / (1 if images.is_floating_point() else maximum),)

    return Trained(
        model,
        PixelProgram(model, pixel_order(order, pixels)),
        encode,
        {"images": {0: "batch"}},
        ("logits",),
        lambda rows: (torch.rand(rows, pixels),),
    )
