"""Takes the measurements of a plan one by one, each in fresh processes, and writes a row after each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.plan import Measurement
from benchmarks.store import ROOT, Results, key


def process(measurement: Measurement, what: dict[str, Any], package: Path | None = None) -> dict[str, Any]:
    """Arguments of a fresh process with the measurement's threads and allocator, and with another package if given."""
    threads, shape = str(measurement.threads), measurement.shape
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    env.pop("THP_MEM_ALLOC_ENABLE", None)
    if measurement.huge_pages:
        env["THP_MEM_ALLOC_ENABLE"] = "1"
    if package is not None:
        env["PYTHONPATH"] = str(package)
    sizes = [shape.steps, shape.batch, shape.inputs, shape.units]
    command = [sys.executable, "-m", "benchmarks", "measure", json.dumps({**what, "shape": sizes})]
    return {"args": command, "cwd": ROOT, "env": env, "stdout": subprocess.PIPE, "text": True}


def child(measurement: Measurement, **what: Any) -> dict[str, float]:
    """What a fresh process finds."""
    output = subprocess.run(**process(measurement, what), check=True).stdout
    return json.loads(output.splitlines()[-1])


def take(measurement: Measurement, budget: float) -> dict[str, Any]:
    """The row of a measurement."""
    m, shape = measurement, measurement.shape
    row: dict[str, Any] = {
        "suite": m.suite, "name": shape.name, "steps": shape.steps, "batch": shape.batch, "inputs": shape.inputs,
        "units": shape.units, "subject": m.subject, "peer": m.peer, "mode": m.mode, "threads": m.threads,
        "huge_pages": int(m.huge_pages),
    }  # fmt: skip
    if m.suite == "memory":
        ours, peers = child(m, name=m.subject), child(m, name=m.peer)
        ratio = ours["megabytes"] / peers["megabytes"]
        both = {**ours, **{f"peer_{column}": value for column, value in peers.items()}}
        return {**row, "rounds": 1, **both, "ratio": ratio, "ratio_25": ratio, "ratio_75": ratio}
    timing = {"suite": m.suite, "mode": m.mode, "budget": budget * m.share, "least": m.rounds}
    return {**row, **child(m, name=m.subject, peer=m.peer, **timing)}


def describe(row: dict[str, Any]) -> str:
    shape = row["name"] or f"{row['suite']} {row['steps']}x{row['batch']}x{row['inputs']}x{row['units']}"
    where = f"{row['threads']} threads{', huge pages' if row['huge_pages'] else ''}"
    how = "memory" if row["suite"] == "memory" else row["mode"]
    size = f"{row['megabytes']:.0f} MB" if how == "memory" else f"{row['milliseconds']:.3f} ms"
    spread = "" if how == "memory" else f" ({row['ratio_25']:.2f}-{row['ratio_75']:.2f}, {row['rounds']} rounds)"
    return f"{shape}, {row['subject']}, {how}, {where}: {size}, {row['ratio']:.2f} of {row['peer']}{spread}"


def run(measurements: Sequence[Measurement], results: Results, budget: float) -> list[Measurement]:
    """Take what the results lack, in order. Returns what failed."""
    done = {key(row) for row in results.rows()}
    left = [m for m in measurements if m.key not in done]
    failed = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(soft_wrap=True, highlight=False)
    with Progress(*columns, console=console, speed_estimate_period=600) as progress:
        total = sum(m.expected(budget) for m in left)
        task = progress.add_task("", total=total)
        for i, measurement in enumerate(left):
            progress.update(task, description=f"{i + 1} of {len(left)}")
            remaining = progress.tasks[0].time_remaining
            minutes = (total if remaining is None else remaining) / 60
            prefix = f"{i + 1}/{len(left)}, {minutes:.0f} min left: "
            try:
                row = take(measurement, budget)
            except subprocess.CalledProcessError as error:
                failed.append(measurement)
                console.print(f"{prefix}FAILED with exit code {error.returncode}: {measurement}")
            else:
                results.append(row)
                console.print(prefix + describe(row))
            progress.advance(task, measurement.expected(budget))
    results.finish()
    return failed
