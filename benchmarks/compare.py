"""Two revisions beside each other: what a change costs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import MOST_ROUNDS, quartiles
from benchmarks.plan import Measurement
from benchmarks.run import process
from benchmarks.store import ROOT
from benchmarks.table import markdown, number


@contextmanager
def revision(name: str) -> Iterator[Path]:
    """The package of another revision, built in a worktree that lasts as long as this does.

    Raises:
        ValueError: there is no such revision, or it could not be built.
    """
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "revision"
        added = subprocess.run([*git, "add", "--detach", tree, name], capture_output=True, text=True, check=False)
        if added.returncode:
            raise ValueError(f"{name!r} cannot be checked out: {added.stderr.strip().splitlines()[-1]}")
        try:
            build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
            built = subprocess.run(build, cwd=tree, capture_output=True, text=True, check=False)
            if not (tree / "src/bnrnn/_kernels.so").exists():
                raise ValueError(f"{name!r} could not be built: {built.stderr.strip()[-1000:]}")
            yield tree / "src"
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)


def paired(measurement: Measurement, packages: tuple[Path, Path], budget: float) -> tuple[list[float], list[float]]:
    """Seconds of a call with the first package and with the second, in turn, each first in every other round.

    Each package has a process that stays for all rounds.
    """
    m = measurement
    what = {"serve": True, "name": m.subject, "suite": m.suite, "mode": m.mode}
    with ExitStack() as stack:
        children = [
            stack.enter_context(subprocess.Popen(**process(m, what, package), stdin=subprocess.PIPE))
            for package in packages
        ]

        def ask(i: int) -> float:
            stdin, stdout = children[i].stdin, children[i].stdout
            assert stdin is not None
            assert stdout is not None
            try:
                stdin.write("\n")
                stdin.flush()
            except BrokenPipeError:
                pass  # it says nothing either
            if answer := stdout.readline():
                return float(answer)
            raise subprocess.CalledProcessError(children[i].wait(), [str(packages[i])])

        times: tuple[list[float], list[float]] = [], []
        ask(0), ask(1)  # both are ready
        started = time.perf_counter()
        while len(times[0]) < m.rounds or (
            len(times[0]) < MOST_ROUNDS and time.perf_counter() - started < budget * m.share
        ):
            for i in (0, 1) if len(times[0]) % 2 else (1, 0):
                times[i].append(ask(i))
        return times


def compare(measurements: Sequence[Measurement], base: str, budget: float) -> str:
    """A table of the ratios of this tree's times to those of the other revision; rows are printed as they come."""
    head = ["subject", "shape", "mode", "threads", "rounds", "ms", f"ms at {base}", "ratio"]
    rows = []
    with revision(base) as other:
        for m in measurements:
            here, there = paired(m, (ROOT / "src", other), budget)
            low, middle, high = quartiles([a / b for a, b in zip(here, there, strict=True)])
            milliseconds = (number(1e3 * quartiles(times)[1]) for times in (here, there))
            name = m.subject if m.suite in ("tasks", "stream") else f"{m.subject}, {m.suite}"
            row = [name, str(m.shape), m.mode, str(m.threads), str(len(here)), *milliseconds,
                   f"{middle:.3f} ({low:.3f}-{high:.3f})"]  # fmt: skip
            print(*row, flush=True)
            rows.append(row)
    return markdown(head, rows)
