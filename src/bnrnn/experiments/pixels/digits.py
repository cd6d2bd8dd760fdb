"""The pixel experiments in small: scikit-learn's 8 x 8 digits, which need no download.

The permuted sequence starts with pixels that are the same in nearly all images, as the scanned one does. So it has the
noise on the initial state as well: without it gradients explode and population statistics fail.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.experiments.pixels.task import PixelTask
from bnrnn.experiments.pixels.trained import trained

_CONFIG = PixelConfig(
    epochs=50, batch_size=50, population_batch_size=400, evaluation_batch_size=50, population_every=240
)
_JUDGEMENT = Judgement("accuracy", "higher", "validation accuracy")

DIGITS = Experiment(
    name="digits",
    summary="Scikit-learn's 8 x 8 digits pixel by pixel in scan order, 64 steps",
    paper="after Cooijmans et al. 2017, 5.1",
    target="a demonstration, not in the papers",
    data="scikit-learn",
    cost="1,200 updates; half a minute on 2 cores",
    config=_CONFIG,
    build=partial(PixelTask, data="digits", order="scan"),
    trained=partial(trained, data="digits", order="scan"),
    judgement=_JUDGEMENT,
)

DIGITS_PERMUTED = Experiment(
    name="digits-permuted",
    summary="As digits, in a fixed random permutation",
    paper="after Cooijmans et al. 2017, 5.1",
    target="a demonstration, not in the papers",
    data="scikit-learn",
    cost="1,200 updates; half a minute on 2 cores",
    config=replace(_CONFIG, initial_state="noise"),
    build=partial(PixelTask, data="digits", order="permuted"),
    trained=partial(trained, data="digits", order="permuted"),
    judgement=_JUDGEMENT,
)
