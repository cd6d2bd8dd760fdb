"""What the image data sets have in common: pixels and labels, in three parts."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Labelled images, one row of pixels each, in scan order.

    ``*_images`` are uint8 of shape (count, pixels), with 0 for the background and ``maximum`` for full ink;
    ``*_labels`` are int64 of shape (count,), 0 to ``classes`` - 1. ``sources`` names what they were read from, with the
    SHA-256 of each.
    """

    train_images: Tensor
    train_labels: Tensor
    valid_images: Tensor
    valid_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    maximum: int = 255
    classes: int = 10
    sources: dict[str, str] = field(default_factory=dict)
