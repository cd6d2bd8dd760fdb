"""The process that does the jobs, one after the other; it may hang or crash without harm to the rest of the plan."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.jobs import STAGES, Job
from benchmarks.gpu.place import here
from benchmarks.store import ROOT


class Worker:
    """The other end of such a process. A fresh one follows a failure: an error on the device stays in its process.

    Args:
        log: where its error output goes.
        toy: whether Triton's kernels are interpreted.
    """

    def __init__(self, log: Path, toy: bool) -> None:
        self.log = log
        self.toy = toy
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, **({"TRITON_INTERPRET": "1"} if self.toy else {})}
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.worker"], cwd=ROOT, env=env, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip

    def ask(self, job: Job) -> dict[str, Any]:
        """What the job finds, or ``{"error": ...}``."""
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        deadline = time.monotonic() + job.limit
        try:
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            process.stdin.flush()
            while not answer.endswith(b"\n"):
                ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    self.stop()
                    return {"error": f"killed after {job.limit:g} s"}
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    break
                answer += piece
        except BrokenPipeError:
            pass  # its end says nothing either
        if not answer.endswith(b"\n"):
            code = process.wait()
            self.stop()
            return {"error": f"the process ended with {code}; see {self.log.name}"}
        found = json.loads(answer)
        if "error" in found:
            self.stop()
        return found

    def stop(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with what it has started
        self._process.communicate()
        self._process = None


def done(job: Job) -> dict[str, Any]:
    """What the job finds; whatever it raises is its result."""
    try:
        return STAGES[job.stage](job, here())
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {lines[0] if lines else ''}"}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints to the log
    for line in [sys.argv[1]] if len(sys.argv) > 1 else sys.stdin:
        given = json.loads(line)
        print(
            json.dumps(done(Job(**{**given, "shape": given["shape"] and tuple(given["shape"])}))),
            file=answers,
            flush=True,
        )


if __name__ == "__main__":
    main()
