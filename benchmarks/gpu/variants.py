"""What is timed on a GPU: cuDNN's layer, which normalizes nothing, and every way of running the normalized one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import bnrnn
from benchmarks.gpu.place import Place
from benchmarks.subjects import TASKS, Call, Layer, Shape, normalized

SHAPES = (*TASKS, Shape(180, 128, 27, 2000, "text8"))
TOY_SHAPES = (Shape(4, 5, 3, 9, "toy"), Shape(3, 3, 2, 17, "toy, more units"))


@dataclass(frozen=True)
class Variant:
    """A layer's training step.

    Attributes:
        name: in the results.
        layer: makes it of input size and hidden size.
        graph: whether the step is captured once and then played again.
    """

    name: str
    layer: Layer
    graph: bool = False

    def call(self, shape: Shape, dtype: torch.dtype, place: Place) -> Call:
        return Call(self.layer, shape, "train", device=place.device, dtype=dtype)

    def prepare(self, call: Call, place: Place) -> Callable[[], object]:
        """The call as it is timed."""
        return place.graph(call) if self.graph else call


CUDNN = Variant("cuDNN", nn.LSTM)
EAGER = normalized(bnrnn.LSTM, "reference")
VARIANTS = {
    variant.name: variant
    for variant in (
        CUDNN,
        Variant("cuDNN in a graph", nn.LSTM, graph=True),
        Variant("eager", EAGER),
        Variant("eager in a graph", EAGER, graph=True),
    )
}
