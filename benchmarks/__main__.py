"""python -m benchmarks verify | run | run --base REVISION | table | plot | gpu --out DIR"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from benchmarks import measure
from benchmarks.compare import compare
from benchmarks.plan import THREADS, plan
from benchmarks.store import Results, machine
from benchmarks.subjects import SUBJECTS, SUITES, Shape
from benchmarks.verify import verify

RESULTS = Path(__file__).parent / "results"


def run(options: argparse.Namespace) -> None:
    chosen = [m for m in plan(options.threads, options.huge_pages)
              if m.suite in options.suites and m.subject in options.subjects
              and not (options.base and m.suite == "memory")]  # fmt: skip
    if not chosen:
        raise SystemExit("there is nothing to measure of these subjects in these suites")
    minutes = sum(m.expected(options.budget) for m in chosen) / 60
    if options.list:
        for measurement in chosen:
            print(*measurement.key, f"{measurement.expected(options.budget):.0f}s")
        print(f"{len(chosen)} measurements, about {minutes:.0f} minutes")
        return
    if options.base:
        if not verify():
            raise SystemExit("nothing is timed before all results are right")
        try:
            print(compare(chosen, options.base, options.budget))
        except (ValueError, subprocess.CalledProcessError) as error:
            raise SystemExit(str(error)) from error
        return
    results, facts = Results(options.out), machine(options.budget)
    print(
        f"{len(chosen)} measurements, about {minutes:.0f} minutes; load {facts['sessions'][0]['load']:.1f}", flush=True
    )
    if not verify():
        raise SystemExit("nothing is timed before all results are right")
    try:
        (results.resume if options.resume else results.start)(facts)
    except ValueError as error:
        raise SystemExit(f"{error}. Without --resume a new run takes its place.") from error
    from benchmarks.run import run as take_all

    if failed := take_all(chosen, results, options.budget):
        raise SystemExit(f"{len(failed)} of {len(chosen)} measurements failed; --resume tries them again")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="compare every kernel with the float64 reference")
    timing = commands.add_parser("run", help="verify, then time; a new run replaces the one before")
    timing.add_argument("--resume", action="store_true",
                        help="go on with the run that is there, if machine, code and budget are the same")  # fmt: skip
    timing.add_argument("--suites", nargs="+", default=list(SUITES), choices=list(SUITES))
    timing.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    timing.add_argument("--threads", nargs="+", type=int, default=THREADS, help="the most important first")
    timing.add_argument("--budget", type=float, default=5.0,
                        help="seconds for each of the LSTM's tasks; everything else has half of it")  # fmt: skip
    timing.add_argument("--no-huge-pages", dest="huge_pages", action="store_false")
    timing.add_argument("--base", metavar="REVISION",
                        help="compare this tree with another revision in place of the peers")  # fmt: skip
    timing.add_argument("--list", action="store_true", help="only say what would be measured, and for how long")
    table = commands.add_parser("table", help="the results as tables in Markdown")
    table.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    plotting = commands.add_parser("plot", help="draw the results as times.svg beside them")
    for command in (timing, table, plotting):
        command.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    gpu = commands.add_parser("gpu", help="check and measure on a GPU; without one, the same at toy sizes, interpreted")
    gpu.add_argument("--out", type=Path, required=True, help="the folder of gpu.json, gpu.md and gpu.log")
    gpu.add_argument("--minutes", type=float, default=9.5, help="no job begins later")
    gpu.add_argument("--resume", action="store_true",
                     help="take what the run in the folder lacks, and what has failed there")  # fmt: skip
    one = commands.add_parser("measure", help="one process's part of run")
    one.add_argument("what", type=json.loads)
    options = parser.parse_args()
    if options.command == "verify":
        raise SystemExit(0 if verify() else 1)
    if options.command == "run":
        run(options)
    elif options.command == "gpu":
        from benchmarks.gpu.command import measure as measure_gpu

        try:
            complete = measure_gpu(options.out, options.minutes, options.resume)
        except ValueError as error:
            raise SystemExit(f"{error}. Without --resume a new run takes its place.") from error
        raise SystemExit(0 if complete else 1)
    elif options.command == "table":
        from benchmarks.table import of_folders, write

        text = of_folders(options.out)
        print(text)
        if options.write:
            write(text)
    elif options.command == "plot":
        from benchmarks.plot import plot

        plot(Results(options.out))
    else:
        what = {**options.what, "shape": Shape(*options.what["shape"])}
        if what.pop("serve", False):
            measure.serve(**what)
        else:
            print(json.dumps(measure.measure_time(**what) if "mode" in what else measure.measure_memory(**what)))


if __name__ == "__main__":
    main()
