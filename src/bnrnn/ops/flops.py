"""How many floating-point operations the operators count for, for ``torch.utils.flop_counter``.

That module takes longer to import than all of this package, so the formulas are entered when a program imports it.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

_COUNTER = "torch.utils.flop_counter"
_Shape = Sequence[int]


def recurrence_flops(
    cell: int, x: _Shape, h0: _Shape, c0: _Shape | None, weight_ih: _Shape, weight_hh: _Shape, bias: _Shape | None,
    bias_hn: _Shape | None, weight_hr: _Shape | None, *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Of the matrix products, two for a weight and a row, with the padded rows; a one-hot input's is a look-up."""
    inputs, hidden, projection = _weights(x, weight_ih, weight_hh, weight_hr)
    return 2 * x[0] * x[1] * (inputs + hidden + projection)


def recurrence_backward_flops(
    grad_output: Any, grad_h_n: Any, grad_c_n: Any, statistics: Any, saved: Any, cell: int, x: _Shape,
    h0: _Shape, c0: _Shape | None, weight_ih: _Shape, weight_hh: _Shape, bias: _Shape | None, bias_hn: _Shape | None,
    weight_hr: _Shape | None, *others: Any, **_: Any,
) -> int:  # fmt: skip
    """Each product has two gradients; that of the input only where it is wanted."""
    inputs, hidden, projection = _weights(x, weight_ih, weight_hh, weight_hr)
    need_x = bool(others[-1])
    return 2 * x[0] * x[1] * ((1 + need_x) * inputs + 2 * hidden + 2 * projection)


def _weights(x: _Shape, weight_ih: _Shape, weight_hh: _Shape, weight_hr: _Shape | None) -> tuple[int, int, int]:
    inputs = weight_ih[0] * weight_ih[1] if len(x) == 3 else 0
    return inputs, weight_hh[0] * weight_hh[1], 0 if weight_hr is None else weight_hr[0] * weight_hr[1]


def _enter(counter: ModuleType) -> None:
    counter.register_flop_formula(torch.ops.bnrnn.recurrence)(recurrence_flops)
    counter.register_flop_formula(torch.ops.bnrnn.recurrence_backward)(recurrence_backward_flops)


class _WhenImported(importlib.abc.MetaPathFinder):
    """Finds the module once, as others would, and enters the formulas when it has been executed."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_enter(module: ModuleType) -> None:
                execute(module)
                _enter(module)

            spec.loader.exec_module = execute_and_enter  # type: ignore[method-assign]
        return spec


if _COUNTER in sys.modules:
    _enter(sys.modules[_COUNTER])
else:
    sys.meta_path.insert(0, _WhenImported())
