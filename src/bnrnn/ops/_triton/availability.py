"""Whether the Triton kernels can run here."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether the kernels run in Triton's interpreter, which takes tensors on the CPU. It is settled when they are defined,
so for a whole process."""
DEVICE = "cpu" if INTERPRETED else "cuda"


def why_not() -> str | None:
    """The reason if they cannot."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if not INTERPRETED and not torch.cuda.is_available():
        return "torch finds no GPU here"
    return None


# A constant for torch.compile, as that of loading.py.
why_not._dynamo_marked_constant = True  # type: ignore[attr-defined]


def facts() -> dict[str, Any]:
    """What :func:`bnrnn.backends` tells of the Triton kernels."""
    reason = why_not()
    if reason is not None:
        return {"available": False, "reason": reason}
    return {"available": True, "device": "Triton's interpreter" if INTERPRETED else torch.cuda.get_device_name()}
