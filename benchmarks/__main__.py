"""python -m benchmarks verify | run | plot"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import bnrnn
from benchmarks import measure
from benchmarks.subjects import FAST, SUITES, TASKS
from benchmarks.verify import verify

RESULTS = Path(__file__).parent / "results"
COLUMNS = [
    "suite", "name", "steps", "batch", "inputs", "units", "subject", "mode", "peer", "threads", "huge_pages", "rounds",
    "milliseconds", "milliseconds_25", "milliseconds_75", "ratio", "ratio_25", "ratio_75", "megabytes",
]  # fmt: skip


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kernels": bnrnn.backends()["cpu"],
    }


def child(threads: int, huge_pages: bool, *args: str) -> Iterator[dict[str, Any]]:
    """Rows measured in a fresh process, under one allocator and with so many threads."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    env.pop("THP_MEM_ALLOC_ENABLE", None)
    if huge_pages:
        env["THP_MEM_ALLOC_ENABLE"] = "1"
    command = [sys.executable, "-m", "benchmarks", "measure", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield {**json.loads(line), "threads": threads, "huge_pages": int(huge_pages)}
    if process.returncode:
        raise SystemExit(f"measuring {' '.join(args)} failed with exit code {process.returncode}")


def show(row: dict[str, Any]) -> None:
    shape = f"{row['steps']}x{row['batch']}x{row['inputs']}x{row['units']}"
    where = f"{row['threads']} threads{', huge pages' if row['huge_pages'] else ''}"
    if "megabytes" in row:
        print(f"{shape:20} {row['subject']:18} {where}: peak {row['megabytes']:.0f} MB", flush=True)
        return
    print(
        f"{shape:20} {row['subject']:18} {row['mode']:6} {where}: {row['milliseconds']:9.3f} ms, "
        f"{row['ratio']:.2f} of {row['peer']} ({row['ratio_25']:.2f}-{row['ratio_75']:.2f})",
        flush=True,
    )


def run(options: argparse.Namespace) -> None:
    if not verify():
        raise SystemExit("nothing is timed before all results are right")
    options.out.mkdir(parents=True, exist_ok=True)
    facts = machine()
    rows = []
    settings = [(t, h) for t in options.threads for h in ([False, True] if options.huge_pages else [False])]
    for suite in options.suites:
        for threads, huge_pages in settings:
            if suite == "memory":
                if threads != options.threads[0]:
                    continue
                for i in range(len(TASKS)):
                    for name in ("nn.LSTM", "LSTM cpu"):
                        rows += child(threads, huge_pages, "memory", "--subject", name, "--shape", str(i))
                        show(rows[-1])
                continue
            slow = ["--slow"] if options.slow else []
            what = [suite, "--subjects", *options.subjects, "--budget", str(options.budget)]
            for row in child(threads, huge_pages, *what, *slow):
                rows.append(row)
                show(row)
    facts["load_at_end"] = os.getloadavg()[0]
    (options.out / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
    with (options.out / "times.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="compare every kernel with the float64 reference")
    timing = commands.add_parser("run", help="verify, then time")
    timing.add_argument("--suites", nargs="+", default=[*SUITES, "stream", "memory"],
                        choices=[*SUITES, "stream", "memory"])  # fmt: skip
    timing.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    timing.add_argument("--subjects", nargs="+", default=FAST, choices=FAST, help="nn.LSTM must be among them")
    timing.add_argument("--budget", type=float, default=15.0, help="seconds for each shape and mode")
    timing.add_argument("--no-huge-pages", dest="huge_pages", action="store_false")
    timing.add_argument("--no-slow", dest="slow", action="store_false", help="without the eager references")
    timing.add_argument("--out", type=Path, default=RESULTS)
    plotting = commands.add_parser("plot", help="draw the committed results")
    plotting.add_argument("--out", type=Path, default=RESULTS)
    one = commands.add_parser("measure", help="one process's part of run")
    one.add_argument("suite", choices=[*SUITES, "stream", "memory"])
    one.add_argument("--subjects", nargs="+", default=FAST)
    one.add_argument("--budget", type=float, default=15.0)
    one.add_argument("--slow", action="store_true")
    one.add_argument("--subject", default="nn.LSTM")
    one.add_argument("--shape", type=int, default=0)
    options = parser.parse_args()
    if options.command == "verify":
        raise SystemExit(0 if verify() else 1)
    if options.command == "run":
        run(options)
    elif options.command == "plot":
        from benchmarks.plot import plot

        plot(options.out)
    elif options.suite == "stream":
        measure.run_stream(options.budget)
    elif options.suite == "memory":
        measure.measure_memory(options.subject, TASKS[options.shape])
    else:
        measure.run_suite(options.suite, options.subjects, options.budget, options.slow)


if __name__ == "__main__":
    main()
