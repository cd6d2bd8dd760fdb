"""What a run was computed by: versions, machine, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import bnrnn


def environment(device: torch.device) -> dict[str, Any]:
    """Facts that help to repeat a run. Nothing names the machine or its user."""
    packages = ("bnrnn", "torch", "numpy", "lightning-fabric")
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _commit() -> str | None:
    """The commit of the source tree that runs, None for an installed package."""
    git = ["git", "-C", str(Path(bnrnn.__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10)
        if tracked.returncode != 0:
            return None
        describe = [*git, "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except OSError:  # no git on this machine
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
