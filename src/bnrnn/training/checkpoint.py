"""Checkpoints: tensors and JSON in one safetensors file, replaced in one step and read without running code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Optimizer


class RunError(ValueError):
    """A run cannot start or go on; the message says why and what to do."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file so that a reader, also after a crash, finds the old content or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened for syncing
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Writes tensors and a JSON object into one file, atomically."""
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(copies, metadata={"facts": json.dumps(facts)}))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save` wrote.

    Raises:
        RunError: the file is not one of ours, or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is not a whole checkpoint ({error}); delete it to start this run afresh") from error


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names below a prefix."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names stand below a prefix, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def model_of(
    tensors: dict[str, Tensor], facts: dict[str, Any], which: Literal["best", "last"]
) -> tuple[dict[str, Tensor], int]:
    """A checkpoint's model and its update: the best so far, or the last one, which also stands in for a best one
    where no trained model was evaluated yet.
    """
    if which == "last" or facts["best"] is None:
        return below("model", tensors), facts["update"]
    return below("best", tensors), facts["best"]["update"]


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors. Its rates are the experiment's and not kept."""
    state = optimizer.state_dict()["state"]
    return {f"{index}/{slot}": value for index, slots in state.items() for slot, value in slots.items()}


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts named tensors of :func:`optimizer_tensors` into a new optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, slot = name.partition("/")
        state.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """An independent copy."""
    return {name: torch.clone(tensor.detach()) for name, tensor in tensors.items()}
