"""Where a run is computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

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


def check_devices(device: str, devices: int) -> None:
    """Refuses more processes than there are devices for.

    Raises:
        RunError: this machine has fewer.
    """
    kind = available()[-1] if device == "auto" else device
    found = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, devices)
    if devices > found:
        raise RunError(f"devices must be at most {found}, what this machine has of {kind}, got {devices}")


class _Together(DDPStrategy):
    """Processes that each have the model as it is: the loop sums the gradients in one exchange.

    DistributedDataParallel would average them, as if each process had equally many rows, refuse parameters that an
    update has no use for, and exchange tables of statistics that are equal already.
    """

    def setup_module(self, module: nn.Module) -> Any:
        return module


def fabric_on(
    device: str, precision: str = "32-true", loggers: Sequence[Any] = (), devices: int = 1, nodes: int = 1
) -> Fabric:
    """One process on a device, or one of several that :func:`bnrnn.training.launch.launch` has started.

    Args:
        device: ``"auto"`` for the fastest there is.
        precision: number format, as Fabric calls it.
        loggers: where metrics go as well.
        devices: processes on this machine.
        nodes: machines.

    Raises:
        RunError: this machine does not have the device.
    """
    check_device(device)
    options: dict[str, Any] = {"accelerator": device, "precision": precision, "loggers": [*loggers]}
    if devices * nodes == 1:
        return Fabric(devices=1, **options)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy = _Together(cluster_environment=LightningEnvironment())
    fabric = Fabric(devices=devices, num_nodes=nodes, strategy=strategy, **options)
    fabric.launch()
    return fabric
