"""Functions run by several processes of a group, and what each returns."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run(work: Callable[..., Any], world: int, folder: Path, *arguments: Any, seconds: float = 400) -> list[Any]:
    """What ``work(rank, world, *arguments)`` returns in each process: anything that torch.save takes.

    Raises:
        AssertionError: they have not all come to an end in time; a collective that some do not join is an error sooner.
    """
    started = torch.multiprocessing.spawn(
        _process, (world, str(folder), work, arguments), nprocs=world, join=False, start_method="spawn"
    )
    assert started is not None
    deadline = time.monotonic() + seconds
    while not started.join(timeout=1):
        if time.monotonic() > deadline:
            for process in started.processes:
                process.kill()
            raise AssertionError(f"{world} processes are not done after {seconds} s")
    return [torch.load(folder / f"{world}-{rank}.pt", weights_only=False) for rank in range(world)]


def _process(rank: int, world: int, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{world}", rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    torch.save(work(rank, world, *arguments), f"{folder}/{world}-{rank}.pt")
    dist.destroy_process_group()
