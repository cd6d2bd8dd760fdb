"""The process groups over which statistics are taken: how they are named, and what they are at a call."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def check_group(name: str, group: Any) -> None:
    """Refuse what names no process group.

    Raises:
        TypeError: neither None, ``"world"`` nor a process group that this process belongs to.
    """
    if group is None or (isinstance(group, str) and group == "world"):
        return
    if not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            f"{name} must be None, 'world' or a torch.distributed.ProcessGroup that this process is in, got {group!r}"
        )


def present(group: Any) -> Any:
    """The process group that a name stands for now; None where there is no other process to share with."""
    if group is None or not (dist.is_available() and dist.is_initialized()):
        return None
    found = dist.group.WORLD if isinstance(group, str) else group
    return found if found is not None and found.size() > 1 else None
