"""python -m benchmarks gpu --out DIR"""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.gpu.jobs import Job, plan
from benchmarks.gpu.place import here
from benchmarks.gpu.results import GpuResults, values
from benchmarks.gpu.worker import Worker
from benchmarks.store import TIMING, code, commit, host, session


def triton_version() -> str | None:
    try:
        return version("triton")
    except PackageNotFoundError:
        return None


def measure(folder: Path, minutes: float, resume: bool) -> bool:
    """Take the jobs of the plan in order until the time is over. Returns whether all are there and none has failed.

    Raises:
        ValueError: the run in the folder is of another machine or other code.
    """
    place = here()
    deadline = time.monotonic() + 60 * minutes
    results = GpuResults(folder)
    facts = {"toy": place.toy, "commit": commit(), "code": code((*TIMING, "benchmarks/gpu")), **place.facts(), **host(),
             "triton": triton_version(), "sessions": [session()]}  # fmt: skip
    (results.resume if resume else results.start)(facts)
    jobs = list(plan(place.toy))
    worker = Worker(results.log, place.toy)
    failed, left = 0, 0
    try:
        for i, job in enumerate(jobs):
            if results.has(job):
                continue
            if time.monotonic() > deadline:
                left = sum(not results.has(other) for other in jobs[i:])
                break
            found = worker.ask(within(job, deadline, place.toy))
            results.add(job, found)
            failed += "error" in found
            print(f"{i + 1}/{len(jobs)} {job}: {values(found)}", flush=True)
    finally:
        worker.stop()
    print(f"{results.json}, {len(jobs) - left - failed} of {len(jobs)} jobs"
          f"{f'; {failed} failed' if failed else ''}{f'; {left} not reached' if left else ''}"
          f"{'; --resume goes on' if failed or left else ''}")  # fmt: skip
    return not failed and not left


def within(job: Job, deadline: float, toy: bool = False) -> Job:
    """The job with what is left of the time as its limit, if that is less; the interpreter may take longer."""
    return replace(job, limit=min(job.limit * (10 if toy else 1), max(5.0, deadline - time.monotonic())))
