"""Scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, at hand without a download."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from bnrnn.data.images import Images


def load() -> Images:
    """The images, uint8 (count, 64) in scan order with values 0 to 16, and labels of the three parts.

    Of each digit's images, in the data set's order, every fifth of six is for validation, every sixth for the
    test and the others are for training: the same split everywhere, with the digits in equal shares. Writers
    are not kept apart.
    """
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    pixels = torch.as_tensor(images).to(torch.uint8)
    labels = torch.as_tensor(targets).long()
    place = _rank_within_class(labels) % 6
    parts = [place < 4, place == 4, place == 5]
    (train, valid, test) = ((pixels[part], labels[part]) for part in parts)
    digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return Images(*train, *valid, *test, maximum=16, sources={"digits": digest})


def _rank_within_class(labels: Tensor) -> Tensor:
    """For each label, how many equal ones stand before it."""
    one_hot = torch.nn.functional.one_hot(labels)
    return (one_hot.cumsum(0) - 1).gather(1, labels[:, None])[:, 0]
