"""A meeting of all programs of a launch, so that one launch can do many time steps."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def meet(counter, target):
    """Wait until ``target`` arrivals are counted, this program's among them.

    What any program has stored before is then seen by the loads of all. Every program must run at once, so the launch
    has to be cooperative, and no load may be moved up across the call: kernels that use it are compiled with one stage.
    Triton's interpreter runs one program after the other: there the grid must have one program, and a race or a
    deadlock can show on a device only.

    Args:
        counter: a number that only grows, 0 at the launch.
        target: for the n-th meeting, n times the number of programs.
    """
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < target:
        pass
    tl.debug_barrier()
