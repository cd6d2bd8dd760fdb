"""``bnrnn reproduce``: both papers, as far as a budget of time goes."""

from __future__ import annotations

import dataclasses
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bnrnn.cli.parsing import parse

if TYPE_CHECKING:
    from bnrnn.report.reproduction import Step

SUMMARY = "run what is missing of both papers' tables and figures, within a budget, and write one report"


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Run what is missing for each table and figure, the shortest first, as far as the budget goes; write the report.

    The report has every table beside ours, every figure, and every claim with its verdict.

    It may be stopped at any moment; the same command goes on.
    """

    budget: str = "10m"
    """Time to spend: 90s, 10m, 2h, 3d, or full."""
    only: tuple[str, ...] = ()
    """Names of items, or what they begin with, as pmnist or gradient-flow."""
    dry_run: bool = False
    """Show the plan with the expected time of each step, and do nothing."""
    threads: int | None = None
    """CPU threads; by default torch's choice."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or mps."""
    out: Path = Path("report")
    """Folder of the report."""


def run(arguments: list[str]) -> int:
    chosen = parse(Reproduce, arguments, "bnrnn reproduce")
    from bnrnn.report.page import write_report
    from bnrnn.report.reproduction import FIGURES, choose, plan, seconds_of
    from bnrnn.report.runs import find_runs

    budget = seconds_of(chosen.budget)
    items = choose(chosen.only)
    steps = plan(items, find_runs(), budget)
    print(table(steps))
    if chosen.dry_run:
        return 0
    started, failed = time.monotonic(), []
    for step in steps:
        left = budget - (time.monotonic() - started)
        if left <= 0:
            break
        print(f"\n{step.item.name} ({step.item.target})", flush=True)
        if _carry_out(step, chosen, left) not in (0, 130):
            failed.append(step.item.name)
    runs = find_runs()
    if runs:
        page = write_report(runs, chosen.out, f"bnrnn reproduce {shlex.join(arguments)}".rstrip(), FIGURES)
        print(f"\nreport: {page}")
    if failed:
        print(f"not done, for the reasons above: {', '.join(failed)}")
    return 1 if failed else 0


def table(steps: list[Step]) -> str:
    """The plan: a line a step, with the time expected of it."""
    if not steps:
        return "nothing is missing, or nothing fits into the budget"
    width = max(len(step.item.name) for step in steps)
    lines = []
    for step in steps:
        length = f"updates {step.start:,} to {step.end:,}" if step.item.is_run else "figure"
        guess = "" if step.measured else " (a guess)"
        lines.append(f"{step.item.name:<{width}}  {length:<28} {_duration(step.seconds)}{guess}")
    return "\n".join([*lines, f"{'in all':<{width}}  {'':<28} {_duration(sum(step.seconds for step in steps))}"])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _carry_out(step: Step, chosen: Reproduce, seconds: float) -> int:
    """Runs a step as commands of their own, which save and stop when their time is up."""
    from bnrnn.report.reproduction import folders
    from bnrnn.report.runs import find_runs

    item = step.item
    command = [*item.arguments]
    if item.is_run:
        command += ["--run-dir", str(step.place), "--max-updates", str(step.end), "--resume", "--device", chosen.device]
        command += ["--threads", str(chosen.threads)] if chosen.threads else []
    elif item.arguments[0] == "figure":
        command += [*map(str, folders(item, find_runs())), "--out", str(step.place.with_suffix(".svg"))]
    code = _command(command, seconds)
    if code == 0 and item.arguments[0] == "search":
        code = _command(["figure", item.name, "--out", str(step.place.with_suffix(".svg"))], seconds)
    return code


def _command(arguments: list[str], seconds: float) -> int:
    process = subprocess.Popen([sys.executable, "-m", "bnrnn", *arguments])
    try:
        return process.wait(timeout=None if seconds == float("inf") else seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.wait() and 130
    except KeyboardInterrupt:  # the terminal has told the command too
        process.wait()
        raise
