"""Checkpoints: tensors and JSON in one safetensors file with a SHA-256 of itself, read without running code."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Optimizer

# where the digest of all the rest stands in the file's header, and what stands for it while it is taken
_ENTRY, _UNSEALED = b'"sha256":"', b"0" * 64


class RunError(ValueError):
    """A run cannot start or go on; the message says why and what to do."""


def write_atomically(path: Path, content: bytes | bytearray) -> None:
    """Replaces a file so that a reader, also after a crash, finds the old content or the new one, never a part.

    Raises:
        RunError: the disk is full or cannot be written; the old content stays and nothing else is left behind.
    """
    part = _written_part(path, content)
    part.replace(path)
    _sync_folder(path.parent)


def _written_part(path: Path, content: bytes | bytearray) -> Path:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"cannot write {path} ({error.strerror or error})") from error
    return part


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened for syncing
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any], previous: Path | None = None) -> None:
    """Writes tensors and a JSON object into one file, atomically.

    Args:
        path: the file.
        tensors: by name.
        facts: what else there is to know.
        previous: where the content that the file had so far is kept. What was written is first read back and compared,
            so that there is always one whole file to go on from.

    Raises:
        RunError: the file cannot be written, or reads back as something else.
    """
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"facts": json.dumps(facts), "sha256": _UNSEALED.decode()}
    content = bytearray(safetensors.torch.save(copies, metadata=metadata))
    place = content.index(_ENTRY + _UNSEALED) + len(_ENTRY)
    content[place : place + 64] = _digest(content, place)
    part = _written_part(path, content)
    if previous is not None:
        if part.read_bytes() != content:
            part.unlink()
            raise RunError(f"{path} does not read back as it was written; the disk may be failing")
        if path.exists():
            path.replace(previous)
    part.replace(path)
    _sync_folder(path.parent)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save` wrote. Files of versions that wrote no digest are read as well.

    Raises:
        RunError: the file is not one of ours, or damaged.
    """
    try:
        content = path.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8:header])["__metadata__"]
        if metadata.keys() != {"facts"}:
            place = content.index(_ENTRY, 8, header) + len(_ENTRY)
            if content[place : place + 64] != _digest(content, place):
                raise ValueError("it is not what its SHA-256 was taken of")
        return safetensors.torch.load(content), json.loads(metadata["facts"])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} is not a whole checkpoint ({error}); put a good copy there, or train anew in another folder"
        ) from error


def _digest(content: bytes | bytearray, place: int) -> bytes:
    """The SHA-256 of a file's content, in hexadecimal digits, with 64 zeros for those that stand at ``place``."""
    digest = hashlib.sha256(memoryview(content)[:place])
    digest.update(_UNSEALED)
    digest.update(memoryview(content)[place + 64 :])
    return digest.hexdigest().encode()


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
