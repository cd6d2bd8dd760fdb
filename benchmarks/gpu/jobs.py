"""The plan: what is checked and measured, in which order, each a job for a process that may be killed over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

from benchmarks.gpu.ceilings import CEILINGS
from benchmarks.gpu.place import Place, Precision, precision
from benchmarks.gpu.variants import CUDNN, SHAPES, TOY_SHAPES, VARIANTS
from benchmarks.measure import alternate, summary
from benchmarks.subjects import Shape

SECONDS = 2.0
"""In which a variant and cuDNN take turns, at each shape."""
LEAST_ROUNDS = 4


@dataclass(frozen=True)
class Job:
    """One row of the results.

    Attributes:
        stage: which of :data:`STAGES` does it.
        name: of what: a variant, a kernel, a ceiling.
        precision: of layers and products; None where there are none.
        shape: of the call.
        limit: the seconds after which its process is killed.
    """

    stage: str
    name: str
    precision: Precision | None = None
    shape: tuple[int, int, int, int] | None = None
    limit: float = 60.0

    @property
    def key(self) -> dict[str, Any]:
        """What tells it from every other job."""
        found = asdict(self)
        del found["limit"]
        return {**found, "shape": self.shape and list(self.shape)}

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) if self.shape else None
        return " ".join(part for part in (self.stage, self.name, shape, self.precision) if part)


def time(job: Job, place: Place) -> dict[str, float]:
    """A training step of a variant beside cuDNN's, in turn; peak memory above layer, data and cotangent."""
    assert job.shape is not None
    assert job.precision is not None
    shape, variant = Shape(*job.shape), VARIANTS[job.name]
    with precision(job.precision) as dtype:
        found: dict[str, float] = {}
        calls = []
        for of, prefix in ((variant, ""), (CUDNN, "peer_")):
            call = of.call(shape, dtype, place)
            memory: dict[str, float] = {}
            with place.memory(memory):
                prepared = of.prepare(call, place)
                prepared()
            calls.append(prepared)
            found[f"{prefix}megabytes"] = memory["megabytes"]
        budget, least = (0.0, 2) if place.toy else (SECONDS, LEAST_ROUNDS)
        return {**found, **summary(*alternate(calls[0], calls[1], budget, least, place.seconds))}


def ceiling(job: Job, place: Place) -> dict[str, float]:
    with precision(job.precision or "float32") as dtype:
        return CEILINGS[job.name](place, dtype)


def barrier(job: Job, place: Place) -> dict[str, Any]:
    """As many programs as the name says, or as the device runs at once."""
    from benchmarks.gpu import barrier  # needs Triton

    programs = place.multiprocessors if job.name == "all" else int(job.name)
    return barrier.barrier(programs, 100 if place.toy else 100_000, place)


STAGES: dict[str, Callable[[Job, Place], dict[str, Any]]] = {"barrier": barrier, "ceiling": ceiling, "time": time}


def plan(toy: bool) -> Iterator[Job]:
    """What can hang, ceilings, then times: all shapes in the precision of the bars first."""
    for programs in ("1",) if toy else ("13", "32", "all"):
        yield Job("barrier", programs, limit=20.0)
    for name in ("copy", "launch"):
        yield Job("ceiling", name)
    precisions: tuple[Precision, ...] = get_args(Precision)
    for name in ("product", "recurrent products"):
        for of in precisions:
            yield Job("ceiling", name, of)
    for of in precisions:
        for shape in TOY_SHAPES if toy else SHAPES:
            for name in VARIANTS:
                yield Job("time", name, of, (shape.steps, shape.batch, shape.inputs, shape.units), 30.0)
