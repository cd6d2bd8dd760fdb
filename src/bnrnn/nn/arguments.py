"""The arguments of a layer's call, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bnrnn.nn.norm import Normalization
from bnrnn.nn.sequences import State, Valid
from bnrnn.nn.values import integer, is_readable
from bnrnn.ops.processes import Processes

if TYPE_CHECKING:
    from bnrnn.nn.parameters import RecurrentParameters


def check_start_step(start_step: Any, bidirectional: bool) -> int:
    """The step as an int.

    Raises:
        ValueError, TypeError: no integer, a negative one, or any but 0 for two directions.
    """
    step: Any = start_step if isinstance(start_step, torch.SymInt) else integer("start_step", start_step)
    if step < 0:
        raise ValueError(f"start_step must not be negative, got {step}")
    if step and bidirectional:
        raise ValueError(
            f"start_step must be 0 for a bidirectional layer, whose reverse direction has no earlier chunk; got {step}"
        )
    return step


def check_input(layer: RecurrentParameters, input: Any, dims: int | None) -> None:
    """Refuse what is not an input of the layer.

    Args:
        layer: that takes it.
        input: floating point, or integers with a dimension less.
        dims: how many dimensions a floating-point input has; None for 2 or 3.

    Raises:
        ValueError, TypeError: another device, dtype or shape.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"input must be a Tensor or PackedSequence, got {type(input).__name__}")
    weight = layer.weight_ih_l0
    if input.device != weight.device:
        raise ValueError(f"input is on {input.device}, the layer's parameters on {weight.device}")
    if input.is_floating_point():
        if input.dtype != weight.dtype and not torch.is_autocast_enabled(input.device.type):
            raise ValueError(f"input has dtype {input.dtype}, the layer's parameters {weight.dtype}")
        allowed = (dims,) if dims else (2, 3)
        if input.dim() not in allowed or input.shape[-1] != layer.input_size:
            layout = "(B, T, {})" if layer.batch_first else "(T, B, {})"
            raise ValueError(
                f"input must have shape {layout.format(layer.input_size)} or (T, {layer.input_size}), got "
                f"{tuple(input.shape)}"
            )
    elif input.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"input must be {weight.dtype}, or int64 or int32 that stand for one-hot rows; got {input.dtype}"
        )
    elif input.dim() not in ((dims - 1,) if dims else (1, 2)):
        layout = "(B, T)" if layer.batch_first else "(T, B)"
        raise ValueError(f"input of integers must have shape {layout} or (T,), got {tuple(input.shape)}")


def check_tokens(x: Tensor, input_size: int) -> None:
    """Refuse integers that stand for no feature, where they can be looked at."""
    if x.is_floating_point() or not x.numel() or not is_readable(x):
        return
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= input_size:
        raise ValueError(f"input: integers must be in [0, {input_size}), got {low} to {high}")


def check_rows(
    x: Tensor, valid: Valid | None, sites: Iterable[Normalization], processes: Mapping[Any, Processes]
) -> None:
    """Refuse fewer rows than a site needs for batch statistics, of all processes that take them together."""
    for site in sites:
        if not site.takes_batch_statistics:
            continue
        rows = x.shape[1]
        if processes and site.process_group in processes:
            together = processes[site.process_group].rows
            rows = sum(together) if site.is_sequence else together[0]
        elif site.is_sequence:
            rows = x.shape[0] * rows if valid is None else int(valid.batch_sizes.sum())
        if rows < site.min_rows:
            raise ValueError(
                f"input: expected more than {site.min_rows - 1} rows to take batch statistics of, got "
                f"{rows} in shape (T, B) = {tuple(x.shape[:2])}; use eval() or a larger batch"
            )


def check_state(layer: RecurrentParameters, x: Tensor, hx: Any, batch: int, batched: bool = True) -> State:
    """The initial states ``(layers * D, B, size)``, zeros where there are none.

    Raises:
        ValueError, TypeError: a state of another kind, shape, device or dtype.
    """
    weight = layer.weight_ih_l0
    count = layer.num_layers * layer._directions
    if hx is None:
        return tuple(weight.new_zeros(count, batch, size) for size in layer._state_sizes)
    names = ("h_0", "c_0")
    for name, value, size in zip(names, hx, layer._state_sizes, strict=False):
        if not isinstance(value, Tensor):
            raise TypeError(f"hx: {name} must be a Tensor, got {type(value).__name__}")
        expected = (count, batch, size) if batched else (count, size)
        if tuple(value.shape) != expected:
            raise ValueError(f"hx: {name} must have shape {expected}, got {tuple(value.shape)}")
        if value.device != weight.device:
            raise ValueError(f"hx: {name} is on {value.device}, the layer's parameters on {weight.device}")
        if value.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"hx: {name} has dtype {value.dtype}, the layer's parameters {weight.dtype}")
    return tuple(hx) if batched else tuple(value.unsqueeze(1) for value in hx)
