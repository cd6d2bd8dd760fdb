"""The plan: what is checked and measured, in which order, each a job for a process that may be killed over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

from benchmarks.gpu.ceilings import CEILINGS
from benchmarks.gpu.place import Place, Precision, precision
from benchmarks.gpu.variants import CUDNN, SHAPES, TOY_SHAPES, VARIANTS
from benchmarks.gpu.verify import sanitize, verify
from benchmarks.measure import alternate, summary
from benchmarks.subjects import Shape
from bnrnn.ops._triton.choice import Kernel

SECONDS = 2.0
"""In which a variant and cuDNN take turns, at each shape."""
LEAST_ROUNDS = 4
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""The bars' first: TF32 is what cuDNN takes unless it is told otherwise."""


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


def time(job: Job, place: Place) -> dict[str, Any]:
    """A training step of a variant beside cuDNN's, in turn; peak memory above layer, data and cotangent."""
    assert job.shape is not None
    assert job.precision is not None
    shape, variant = Shape(*job.shape), VARIANTS[job.name]
    with precision(job.precision) as dtype, variant.chosen():
        found: dict[str, Any] = {}
        calls = []
        for of, prefix in ((variant, ""), (CUDNN, "peer_")):
            try:
                call = of.call(shape, dtype, place)
            except ValueError as error:  # the kernel does not cover the shape
                return {"not run": str(error)}
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


def verified(job: Job, place: Place) -> dict[str, Any]:
    return verify(job.name, place, few=place.toy or job.stage == "verify few")  # type: ignore[arg-type]


def sanitized(job: Job, place: Place) -> dict[str, Any]:
    """The name says the tool and the kernel."""
    tool, kernel = job.name.split()
    return sanitize(tool, asdict(Job("verify few", kernel)), place, job.limit)


STAGES: dict[str, Callable[[Job, Place], dict[str, Any]]] = {
    "verify": verified,
    "verify few": verified,
    "sanitize": sanitized,
    "barrier": barrier,
    "ceiling": ceiling,
    "time": time,
}


def plan(toy: bool) -> Iterator[Job]:
    """Correctness, what can hang, ceilings and the times of the bars' precision; then CUDA's own checks, and the rest.

    The limits are what may be lost to a hang.
    """
    kernels: tuple[Kernel, ...] = get_args(Kernel)
    first, *others = PRECISIONS
    for kernel in kernels:
        yield Job("verify", kernel, limit=90.0)
    for programs in ("1",) if toy else ("13", "32", "all"):
        yield Job("barrier", programs, limit=20.0)
    yield from ceilings(first)
    yield from times(first, toy)
    for tool in ("memcheck", "racecheck"):
        for kernel in kernels:
            yield Job("sanitize", f"{tool} {kernel}")
    for of in others[-1:] if toy else others:
        yield from ceilings(of)
        yield from times(of, toy)


def ceilings(of: Precision) -> Iterator[Job]:
    if of == PRECISIONS[0]:
        for name in ("copy", "launch"):
            yield Job("ceiling", name)
    for name in ("product", "recurrent products"):
        yield Job("ceiling", name, of)


def times(of: Precision, toy: bool) -> Iterator[Job]:
    for shape in TOY_SHAPES if toy else SHAPES:
        for name in VARIANTS:
            yield Job("time", name, of, (shape.steps, shape.batch, shape.inputs, shape.units), 30.0)
