"""What the machine can do at best: bytes copied, products, and what a launch costs, by itself and in a graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.place import Place
from benchmarks.gpu.variants import SHAPES, TOY_SHAPES

ROUNDS = 10


def median(place: Place, call: Callable[[], object]) -> float:
    """Seconds of a call."""
    call()
    return statistics.median(place.seconds(call) for _ in range(ROUNDS))


def copy(place: Place, dtype: torch.dtype) -> dict[str, float]:
    """Bytes read and written in a second, of a copy too large for any cache."""
    source = torch.ones(2**12 if place.toy else 2**28, device=place.device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.itemsize
    return {"gigabytes_per_second": moved / median(place, lambda: target.copy_(source)) / 1e9}


def product(place: Place, dtype: torch.dtype) -> dict[str, float]:
    """Of a large square product."""
    n = 64 if place.toy else 8192
    one, other = (torch.randn(n, n, device=place.device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(one)
    return {"teraflops": 2 * n**3 / median(place, lambda: torch.mm(one, other, out=out)) / 1e12}


def recurrent_products(place: Place, dtype: torch.dtype) -> dict[str, float]:
    """Microseconds of one step's product at each shape, as a node of a graph."""
    found = {}
    for shape in TOY_SHAPES if place.toy else SHAPES:
        state = torch.randn(shape.batch, shape.units, device=place.device, dtype=dtype)
        weight = torch.randn(shape.units, 4 * shape.units, device=place.device, dtype=dtype)
        out = torch.empty(shape.batch, 4 * shape.units, device=place.device, dtype=dtype)
        found[f"microseconds at {shape}"] = 1e6 * in_graph(
            place, lambda s=state, w=weight, o=out: torch.mm(s, w, out=o)
        )
    return found


def in_graph(place: Place, call: Callable[[], object]) -> float:
    """Seconds of a call as one of many nodes of a graph that follow each other."""
    nodes = 10 if place.toy else 500

    def many() -> None:
        for _ in range(nodes):
            call()

    return median(place, place.graph(many)) / nodes


def launch(place: Place, dtype: torch.dtype) -> dict[str, float]:
    """Of torch's smallest operation: the processor's time where nothing waits for it, and that of a graph's node."""
    one = torch.zeros(1, device=place.device)
    calls = 10 if place.toy else 1000
    place.seconds(lambda: one.add_(1))
    started = time.perf_counter()
    for _ in range(calls):
        one.add_(1)
    queued = time.perf_counter() - started
    return {
        "microseconds": 1e6 * queued / calls,
        "microseconds of a graph's node": 1e6 * in_graph(place, lambda: one.add_(1)),
    }


CEILINGS: dict[str, Callable[[Place, torch.dtype], dict[str, float]]] = {
    "copy": copy,
    "launch": launch,
    "product": product,
    "recurrent products": recurrent_products,
}
"""By name; the last two are of a precision."""
