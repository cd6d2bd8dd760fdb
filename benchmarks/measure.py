"""One measurement, in a fresh process."""

from __future__ import annotations

import gc
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.subjects import Call, Shape, make

MOST_ROUNDS = 200
MEMORY_STEPS = 5


def seconds(call: Callable[[], object]) -> float:
    """Of the clock; with one thread of its processor, which other programs disturb less."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    call()
    return clock() - started


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def alternate(
    one: Callable[[], object],
    other: Callable[[], object],
    budget: float,
    least: int,
    seconds: Callable[[Callable[[], object]], float] = seconds,
) -> tuple[list[float], list[float]]:
    """Times of the two, back to back in every round, each first in every other round.

    There are as many rounds as fit into ``budget`` seconds, but at least ``least`` and an even number.
    """
    for _ in range(2):  # what the first calls prepare, and what the second ones find prepared
        one()
        other()
    gc.collect()
    times: tuple[list[float], list[float]] = [], []
    started = time.perf_counter()
    rounds = 0
    while rounds < least or rounds % 2 or (rounds < MOST_ROUNDS and time.perf_counter() - started < budget):
        if rounds % 2:
            times[1].append(seconds(other))
            times[0].append(seconds(one))
        else:
            times[0].append(seconds(one))
            times[1].append(seconds(other))
        rounds += 1
    return times


def measure_time(
    name: str, peer: str, suite: str, shape: Shape, mode: str, budget: float, least: int
) -> dict[str, float]:
    """Milliseconds a call of both, and the ratio of the two within a round: medians and quartiles over the rounds."""
    subjects = make(name, shape, mode, suite), make(peer, shape, mode, suite)
    ours, peers = alternate(*subjects, budget, least)
    return summary([t / subjects[0].calls for t in ours], [t / subjects[1].calls for t in peers])


def summary(ours: list[float], peers: list[float]) -> dict[str, float]:
    """Of the seconds of a subject's calls and of its peer's in the same rounds."""
    found: dict[str, float] = {"rounds": len(ours)}
    columns = {
        "milliseconds": [1e3 * t for t in ours],
        "peer_milliseconds": [1e3 * t for t in peers],
        "ratio": [a / b for a, b in zip(ours, peers, strict=True)],
    }
    for column, values in columns.items():
        found[f"{column}_25"], found[column], found[f"{column}_75"] = quartiles(values)
    return found


def serve(name: str, suite: str, shape: Shape, mode: str) -> None:
    """Time one call for each line that comes, and answer with its seconds."""
    call = make(name, shape, mode, suite)
    for _ in range(2):
        call()
    gc.collect()
    for _ in sys.stdin:
        print(seconds(call) / call.calls, flush=True)


def resident_megabytes(field: str) -> float:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def measure_memory(name: str, shape: Shape) -> dict[str, float]:
    """Resident memory of a few training steps above that of the layer and its data before the first of them.

    ``megabytes`` is the peak over all the steps, so memory kept from one step to the next counts as much as memory
    taken anew in each; ``kept_megabytes`` is what the process still holds after the last, gradients freed.
    """
    Call(name, Shape(2, 4, 3, 8), "train")()  # libraries and thread pools
    subject = Call(name, shape, "train")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    before = resident_megabytes("VmRSS")
    for _ in range(MEMORY_STEPS):
        subject()
    gc.collect()
    return {"megabytes": resident_megabytes("VmHWM") - before, "kept_megabytes": resident_megabytes("VmRSS") - before}
