"""What is timed on a GPU: cuDNN's layer, which normalizes nothing, and every way of running the normalized one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

import bnrnn
from benchmarks.gpu.place import Place
from benchmarks.subjects import TASKS, Call, Layer, Shape, normalized
from bnrnn.ops._triton.choice import Kernel, using

SHAPES = (*TASKS, Shape(180, 128, 27, 2000, "text8"))
TOY_SHAPES = (Shape(3, 3, 2, 9, "toy"),)


@dataclass(frozen=True)
class Variant:
    """A layer's training step.

    Attributes:
        name: in the results.
        layer: makes it of input size and hidden size.
        graph: whether the step is captured once and then played again.
        kernel: what is asked for of the table of Triton's kernels.
    """

    name: str
    layer: Layer
    graph: bool = False
    kernel: Kernel | None = None

    def call(self, shape: Shape, dtype: torch.dtype, place: Place) -> Call:
        return Call(self.layer, shape, "train", device=place.device, dtype=dtype)

    def chosen(self) -> AbstractContextManager[None]:
        """In which its kernel is taken."""
        return nullcontext() if self.kernel is None else using(self.kernel)

    def prepare(self, call: Call, place: Place) -> Callable[[], object]:
        """The call as it is timed."""
        return place.graph(call) if self.graph else call


CUDNN = Variant("cuDNN", nn.LSTM)
EAGER = normalized(bnrnn.LSTM, "reference")
TRITON = normalized(bnrnn.LSTM, "triton")
VARIANTS = {
    variant.name: variant
    for variant in (
        CUDNN,
        Variant("cuDNN in a graph", nn.LSTM, graph=True),
        Variant("eager", EAGER),
        Variant("eager in a graph", EAGER, graph=True),
        Variant("step", TRITON, kernel="step"),
        Variant("step in a graph", TRITON, graph=True, kernel="step"),
        Variant("dot", TRITON, kernel="dot"),
        Variant("scan", TRITON, kernel="scan"),
    )
}
