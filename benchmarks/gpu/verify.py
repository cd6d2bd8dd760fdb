"""The kernels on the device beside the float64 reference, and under CUDA's own checks of memory and of races."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from tests.ops.cpu_cases import Case, build, difference, run

from benchmarks.gpu.place import Place, compute_sanitizer
from benchmarks.store import ROOT
from benchmarks.verify import FRAME, LAYER
from bnrnn import ops
from bnrnn.ops._triton.choice import ROWS, Kernel, using

TIMES_EAGER = 5.0
"""The most that a result may be off, in units of what eager float32 is off in the same result."""
LEAST = 2e-6
"""What it may be off where eager float32 is not."""
SITES = {"lstm": (*FRAME, ("cell", "frame")), "gru": FRAME, "rnn": FRAME}
LAYERS = {"lstm": (*LAYER, ("cell", "layer")), "gru": LAYER, "rnn": LAYER}


def cases(few: bool) -> Iterator[Case]:
    """Each for what it may find on a device alone: every compiled kernel costs a second or two."""
    # statistics of few rows magnify roundings, ours and eager ones, each by chance
    base = Case("lstm", 4, 16, units=19, sites=SITES["lstm"], min_rows=8)
    if few:
        yield replace(base, lengths=True, mask=True, zoneout="mask")
        return
    for cell in SITES:
        base = replace(base, cell=cell, steps=7, sites=SITES[cell])
        yield base
        yield replace(base, lengths=True, mask=True, zoneout="mask")
        yield replace(base, sites=())
        yield replace(base, sites=LAYERS[cell])
        yield replace(base, population=True, one_hot=True, lengths=True)
        yield replace(base, sites=(("input", "frame"), ("summed", "frame")))
        yield replace(base, steps=40, batch=64, inputs=50, units=100)
        yield replace(base, steps=20, batch=33, units=250, lengths=True)
        yield replace(base, batch=300, units=37)
    base = replace(base, cell="lstm", sites=SITES["lstm"])
    yield replace(base, projection=7)
    yield replace(base, sites=(("input", "sequence"), ("recurrent", "frame"), ("cell", "frame")), lengths=True)


def covered(case: Case, kernel: Kernel) -> bool:
    """Whether the kernel takes the call at all."""
    layers = any(kind == "layer" for _, kind in case.sites)
    return kernel == "step" or not (layers or case.projection or case.batch > ROWS)


def verify(kernel: Kernel, place: Place, few: bool) -> dict[str, Any]:
    """The worst of all results, in units of what eager float32 is off in the same result.

    Raises:
        RuntimeError: a result is off by more than :data:`TIMES_EAGER` of these, and :data:`LEAST`.
    """
    worst, wrong, count = 0.0, [], 0
    for case in cases(few):
        if not covered(case, kernel):
            continue
        op, call = getattr(ops, case.cell), build(case)
        expected = run(op, call, "reference")
        given = call.to(torch.float32, place.device)
        eager = difference(run(op, given, "reference"), expected)
        with using(kernel):
            errors = difference(run(op, given, "triton"), expected)
        for name, error in errors.items():
            times = error / (eager[name] + LEAST / TIMES_EAGER)
            worst = max(worst, times)
            if not times < TIMES_EAGER:
                wrong.append(f"{name} of {case.cell} {case.name} by {error:.1e} (eager {eager[name]:.1e})")
        count += 1
    if wrong:
        raise RuntimeError(f"{len(wrong)} results are off: {'; '.join(wrong)}")
    return {"cases": count, "times eager's error": worst}


def sanitize(tool: str, job: dict[str, Any], place: Place, limit: float) -> dict[str, Any]:
    """Another job's process under a tool of compute-sanitizer.

    Raises:
        RuntimeError: the tool has found something, or the job has failed.
    """
    if place.toy:
        return {"not run": "there is no GPU"}
    program = compute_sanitizer()
    if program is None:
        return {"not run": "compute-sanitizer is not installed; it comes with CUDA's toolkit"}
    command = [program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9", sys.executable, "-m",
               "benchmarks.gpu.worker", json.dumps(job)]  # fmt: skip
    env = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # each tensor has bounds of its own then
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=limit)
    print(ended.stdout, ended.stderr)
    lines = ended.stdout.splitlines()
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    summary = next((line.strip("= ") for line in lines if "SUMMARY" in line), "no summary")
    if ended.returncode or not answers or "error" in answers[0]:
        raise RuntimeError(f"{summary}; {answers[0] if answers else 'the job gave no answer'}")
    return {**answers[0], "found": summary}
