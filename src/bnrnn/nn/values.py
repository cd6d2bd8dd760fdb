"""What a user gives as a number: any integer or real of Python or NumPy, and nothing that only looks like one."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def integer(name: str, value: object) -> int:
    """``value`` as an int: anything with ``__index__`` that is neither a bool nor a tensor.

    Raises:
        TypeError: something else.
    """
    if not isinstance(value, (bool, Tensor)):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} must be an int, got {value!r}")


def number(name: str, value: object) -> float:
    """``value`` as it is if it is an int or float of Python, as a float if it is another real number.

    Raises:
        TypeError: something else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    real: Any = value
    return real if type(real) in (int, float) else float(real)


def finite(name: str, value: object, *, positive: bool = False) -> float:
    """A finite number, with ``positive`` above 0.

    Raises:
        TypeError, ValueError: something else.
    """
    value = number(name, value)
    if not math.isfinite(value) or (positive and value <= 0):
        allowed = "a finite number above 0" if positive else "a finite number"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return value


def probability(name: str, value: object, *, allow_one: bool = False) -> float:
    """A number from 0 to 1, with ``allow_one`` including 1.

    Raises:
        TypeError, ValueError: something else.
    """
    value = number(name, value)
    if not (0 <= value < 1 or (allow_one and value == 1)):
        raise ValueError(f"{name} must be a probability in [0, 1{']' if allow_one else ')'}, got {value!r}")
    return float(value)


def is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work."""
    functorch = torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]
    return functorch or forward_ad._current_level >= 0


def is_readable(tensor: Tensor) -> bool:
    """Whether the tensor has values that Python may look at: not on meta, not fake, not traced, not batched by vmap."""
    if torch.compiler.is_compiling() or tensor.is_meta or type(tensor) is not Tensor:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # type: ignore[attr-defined]


def is_in_backward() -> bool:
    """Whether this runs within a backward pass, as what activation checkpointing computes again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
