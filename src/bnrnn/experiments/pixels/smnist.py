"""Sequential MNIST: digits pixel by pixel in scan order, 784 steps."""

from __future__ import annotations

from functools import partial

from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.experiments.pixels.task import PixelTask
from bnrnn.experiments.pixels.trained import trained

SMNIST = Experiment(
    name="smnist",
    summary="MNIST pixel by pixel in scan order, 784 steps",
    paper="Cooijmans et al. 2017, 5.1",
    target="Table 1; Figure 3, left",
    data="mnist",
    cost="100,000 updates; 5 to 8 h on 2 cores",
    config=PixelConfig(),
    build=partial(PixelTask, data="mnist", order="scan"),
    trained=partial(trained, data="mnist", order="scan"),
    judgement=Judgement("accuracy", "higher", "validation accuracy", figure="smnist"),
)
