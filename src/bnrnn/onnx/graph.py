"""An ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

TYPES = {torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE}


@dataclass
class Graph:
    """Nodes under way, and the names of their values. A scan's body is one inside another, with its own names.

    Args:
        dtype: ONNX's number of the floating-point type.
        prefix: before every name.
    """

    dtype: int
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def input(self, name: str, shape: tuple[Any, ...], integer: bool = False) -> str:
        kind = TensorProto.INT64 if integer else self.dtype
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: tuple[Any, ...]) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, self.dtype, list(shape)))

    def constant(self, value: np.ndarray | Tensor) -> str:
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        name = self.name()
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def integers(self, *values: int) -> str:
        """A constant of shape ``(count,)``."""
        return self.constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        return self.constant(np.array(value, np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, helper.tensor_dtype_to_np_dtype(self.dtype)))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """A value cut along an axis."""
        return (
            [value] if len(sizes) == 1 else self.several("Split", len(sizes), value, self.integers(*sizes), axis=axis)
        )

    def size(self, value: str, axis: int) -> str:
        """The length of an axis, a scalar."""
        return self.add("Gather", self.add("Shape", value), self.integer(axis), axis=0)


def save(model: onnx.ModelProto, file: str | Path | None) -> onnx.ModelProto:
    """The model, checked, and written where there is a file to write.

    Raises:
        OSError: the file cannot be written.
    """
    onnx.checker.check_model(model, full_check=True)
    if file is not None:
        onnx.save(model, file)
    return model
