"""The meeting of a launch's programs, very often: it must not hang, and what was written before it must be seen."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from benchmarks.gpu.place import Place
from bnrnn.ops._triton.barrier import meet


@triton.jit
def exchange(counter, board, wrong, steps):
    """Every program writes the number of the step, meets the others and reads its neighbour's; two boards in turn."""
    me = tl.program_id(0)
    programs = tl.num_programs(0)
    missed = 0
    for t in range(steps):
        here = board + (t % 2) * programs
        tl.store(here + me, t)
        meet(counter, (t + 1) * programs)
        missed += (tl.load(here + (me + 1) % programs) != t).to(tl.int32)
    tl.store(wrong + me, missed)


def barrier(programs: int, steps: int, place: Place) -> dict[str, Any]:
    """Microseconds of a meeting, and how often a program saw another number than its neighbour had written.

    Raises:
        RuntimeError: that happened.
    """
    board = torch.full((2, programs), -1, dtype=torch.int32, device=place.device)
    wrong = torch.full((programs,), -1, dtype=torch.int32, device=place.device)

    def run(count: int) -> float:
        counter = torch.zeros(1, dtype=torch.int32, device=place.device)
        options: dict[str, Any] = {} if place.toy else {"launch_cooperative_grid": True, "num_stages": 1}
        return place.seconds(lambda: exchange[(programs,)](counter, board, wrong, count, **options))

    run(10)
    seconds = run(steps)
    if missed := int(wrong.sum()):
        raise RuntimeError(f"{missed} of {programs * steps} exchanges missed what was written")
    return {"programs": programs, "steps": steps, "microseconds a step": 1e6 * seconds / steps}
