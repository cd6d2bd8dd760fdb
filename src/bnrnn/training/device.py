"""Where a run is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from bnrnn.training.checkpoint import RunError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32-true", "bf16-mixed", "64-true"]


def available() -> list[str]:
    """The names of the devices that this machine has."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, there in found.items() if there]


def check_device(device: str) -> None:
    """Refuses a device that this machine does not have.

    Raises:
        RunError: it has not.
    """
    if device != "auto" and device not in available():
        raise RunError(f"device {device} is not at hand here; there is {', '.join(available())}")


def fabric_on(device: str, precision: str = "32-true", loggers: Sequence[Any] = ()) -> Fabric:
    """One process on a device.

    Args:
        device: ``"auto"`` for the fastest there is.
        precision: number format, as Fabric calls it.
        loggers: where metrics go as well.

    Raises:
        RunError: this machine does not have the device.
    """
    check_device(device)
    return Fabric(accelerator=device, devices=1, precision=precision, loggers=[*loggers])  # pyright: ignore[reportArgumentType]
