"""Permuted MNIST: the pixels in a fixed random order.

``pmnist`` is the paper's text: a permutation. ``pmnist-released`` is the released code: 784 indices drawn with
replacement, so that 283 pixels are never shown. Which of them gave the published 90.2 and 95.4 is not known.
"""

from __future__ import annotations

from functools import partial

from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.experiments.pixels.task import PixelTask
from bnrnn.experiments.pixels.trained import trained

_JUDGEMENT = Judgement("accuracy", "higher", "validation accuracy", figure="pmnist")

PMNIST = Experiment(
    name="pmnist",
    summary="MNIST pixel by pixel in a fixed random permutation, 784 steps",
    paper="Cooijmans et al. 2017, 5.1",
    target="Table 1; Figure 3, right",
    data="mnist",
    cost="100,000 updates; 5 to 8 h on 2 cores",
    config=PixelConfig(),
    build=partial(PixelTask, data="mnist", order="permuted"),
    trained=partial(trained, data="mnist", order="permuted"),
    judgement=_JUDGEMENT,
)

PMNIST_RELEASED = Experiment(
    name="pmnist-released",
    summary="As pmnist, with the released code's pixel order: drawn with replacement",
    paper="Cooijmans et al. 2017, 5.1 (code)",
    target="Table 1; Figure 3, right",
    data="mnist",
    cost="100,000 updates; 5 to 8 h on 2 cores",
    config=PixelConfig(),
    build=partial(PixelTask, data="mnist", order="with-replacement"),
    trained=partial(trained, data="mnist", order="with-replacement"),
    judgement=_JUDGEMENT,
)
