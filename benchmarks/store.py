"""The results of one run: times.csv, a row for each measurement, and machine.json, what they depend on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import bnrnn

ROOT = Path(__file__).parents[1]
COLUMNS = [
    "suite", "name", "steps", "batch", "inputs", "units", "subject", "peer", "mode", "threads", "huge_pages", "rounds",
    "milliseconds", "milliseconds_25", "milliseconds_75",
    "peer_milliseconds", "peer_milliseconds_25", "peer_milliseconds_75",
    "megabytes", "kept_megabytes", "peer_megabytes", "peer_kept_megabytes",
    "ratio", "ratio_25", "ratio_75",
]  # fmt: skip
KEY = ("suite", "subject", "mode", "steps", "batch", "inputs", "units", "threads", "huge_pages")
MUST_AGREE = ("code", "budget", "torch", "python", "processor", "cores", "system", "kernels")
TIMED = ("src/bnrnn/nn", "src/bnrnn/ops", "src/bnrnn/csrc", "setup.py")
TIMING = ("benchmarks/measure.py", "benchmarks/subjects.py")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def code(timing: Sequence[str] = TIMING) -> str:
    """A digest of what is timed and what times it, the same for the same files wherever they were committed."""
    digest = hashlib.sha256()
    for place in (*TIMED, *timing):
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".cpp", ".h", ".hpp"):
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def host() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def session() -> dict[str, Any]:
    return {"date": datetime.now(timezone.utc).date().isoformat(), "load": os.getloadavg()[0]}


def machine(budget: float) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "commit": commit(),
        "code": code(),
        "budget": budget,
        **host(),
        "kernels": json.loads(json.dumps(bnrnn.backends()["cpu"])),
        "sessions": [session()],
    }


def key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[column] for column in KEY)


def line(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def replace(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


class Results:
    """A folder with the rows of one run, all of one configuration; a killed run loses no row that was complete."""

    def __init__(self, folder: Path) -> None:
        self.table = folder / "times.csv"
        self.about = folder / "machine.json"

    def facts(self) -> dict[str, Any]:
        return json.loads(self.about.read_text())

    def rows(self) -> list[dict[str, str]]:
        """The complete rows: the last line of a run killed while writing it has no end."""
        text = self.table.read_text()
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))

    def start(self, facts: dict[str, Any]) -> None:
        """Begin a run, in the place of an earlier one."""
        self.table.parent.mkdir(parents=True, exist_ok=True)
        replace(self.table, line(COLUMNS))  # first: the old rows must never stand beside the new facts
        replace(self.about, json.dumps(facts, indent=1) + "\n")

    def resume(self, facts: dict[str, Any]) -> None:
        """Go on with a run, or begin it where there is none. Raises ValueError where the two do not agree."""
        if not (self.table.exists() and self.about.exists()):
            self.start(facts)
            return
        old = self.facts()
        differing = [f"{name} was {old.get(name)!r}, is {facts[name]!r}"
                     for name in MUST_AGREE if old.get(name) != facts[name]]  # fmt: skip
        if not self.table.read_text().startswith(line(COLUMNS)):
            differing.append("its columns are others")
        if differing:
            raise ValueError(f"the run in {self.table.parent} cannot be gone on with: {'; '.join(differing)}")
        text = self.table.read_text()
        replace(self.table, text[: text.rfind("\n") + 1])
        replace(self.about, json.dumps({**old, "sessions": [*old["sessions"], *facts["sessions"]]}, indent=1) + "\n")

    def append(self, row: Mapping[str, Any]) -> None:
        values = (row.get(column, "") for column in COLUMNS)
        with self.table.open("a") as file:
            file.write(line([f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]))
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        facts = self.facts()
        facts["sessions"][-1]["load_at_end"] = os.getloadavg()[0]
        replace(self.about, json.dumps(facts, indent=1) + "\n")
