"""The results of a run: gpu.json, rewritten after every job, and gpu.md, the same as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.jobs import Job
from benchmarks.gpu.variants import CUDNN, VARIANTS
from benchmarks.store import replace
from benchmarks.table import markdown, number

MUST_AGREE = ("code", "device", "torch", "triton", "driver", "processor")
BAR, GOAL = 1.2, 1.0
"""Of cuDNN's training step, at every shape."""

KEYS = ("stage", "name", "precision", "shape")

Row = Mapping[str, Any]


class GpuResults:
    """A folder with the rows of one run; a killed run loses none that was complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.json = folder / "gpu.json"
        self.log = folder / "gpu.log"
        self.about: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def start(self, facts: dict[str, Any]) -> None:
        """Begin a run, in the place of an earlier one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        self.about, self.rows = facts, []
        self._write()

    def resume(self, facts: dict[str, Any]) -> None:
        """Go on with a run, or begin it where there is none. Raises ValueError where the two do not agree."""
        if not self.json.exists():
            self.start(facts)
            return
        found = json.loads(self.json.read_text())
        old = found["about"]
        differing = [f"{name} was {old.get(name)!r}, is {facts.get(name)!r}"
                     for name in MUST_AGREE if old.get(name) != facts.get(name)]  # fmt: skip
        if differing:
            raise ValueError(f"the run in {self.folder} cannot be gone on with: {'; '.join(differing)}")
        self.about = {**old, "sessions": [*old["sessions"], *facts["sessions"]]}
        self.rows = [row for row in found["rows"] if "error" not in row]
        self._write()

    def has(self, job: Job) -> bool:
        return any(row.items() >= job.key.items() for row in self.rows)

    def add(self, job: Job, found: Mapping[str, Any]) -> None:
        self.rows.append({**job.key, **found})
        self._write()

    def _write(self) -> None:
        replace(self.json, json.dumps({"about": self.about, "rows": self.rows}, indent=1) + "\n")
        replace(self.folder / "gpu.md", page(self.about, self.rows))


def shape(row: Row) -> str:
    return " x ".join(map(str, row["shape"] or ()))


def spread(row: Row) -> str:
    low, middle, high = (row[f"ratio{end}"] for end in ("_25", "", "_75"))
    return f"{middle:.2f} ({low:.2f}-{high:.2f}), {number(row['milliseconds'])} ms"


def memory(row: Row) -> str:
    ours, peers = row["megabytes"], row["peer_megabytes"]
    return f"{ours / peers:.2f} ({number(ours)} / {number(peers)})" if peers else number(ours)


def verdict(rows: Sequence[Row], wrong: set[str]) -> str:
    """The fastest of the normalized layer's variants with right results, beside the bar."""
    variants = {row["name"]: VARIANTS[row["name"]] for row in rows}
    ours = [row for row in rows if "ratio" in row and variants[row["name"]].layer is not CUDNN.layer
            and variants[row["name"]].kernel not in wrong]  # fmt: skip
    if not ours:
        return ""
    best = min(ours, key=lambda row: row["ratio"])
    reached = "the goal" if best["ratio"] <= GOAL else "the bar" if best["ratio"] <= BAR else "not the bar"
    return f"{best['name']}: {reached}"


def wrong_kernels(rows: Sequence[Row]) -> set[str]:
    """Those with results that are not the reference's."""
    return {row["name"] for row in rows if row["stage"] == "verify" and "error" in row}


def cell(row: Row | None, show: Callable[[Row], str], wrong: set[str]) -> str:
    if row is None:
        return ""
    if "error" in row:
        return "error"
    if "not run" in row:
        return "not covered"
    return show(row) + (", WRONG RESULTS" if VARIANTS[row["name"]].kernel in wrong else "")


def of_shapes(rows: Sequence[Row], show: Callable[[Row], str], wrong: set[str], judge: bool) -> str:
    """A line a shape, a column a variant."""
    names = [name for name in VARIANTS if any(row["name"] == name for row in rows)]
    cells = []
    for of in dict.fromkeys(map(shape, rows)):
        here = [row for row in rows if shape(row) == of]
        by_name = {row["name"]: row for row in here}
        shown = [cell(by_name.get(name), show, wrong) for name in names]
        cells.append([of, *shown, *([verdict(here, wrong)] if judge else [])])
    return markdown(["steps x batch x inputs x units", *names, *(["fastest"] if judge else [])], cells)


def values(row: Row) -> str:
    """All that was found, in words."""
    if "ratio" in row:
        return f"{spread(row)}, {number(row['megabytes'])} MB"
    return ", ".join(f"{number(value) if isinstance(value, float) else value} {name.replace('_', ' ')}"
                     for name, value in row.items() if name not in KEYS)  # fmt: skip


def page(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """All rows as Markdown."""
    facts = [f"- {name}: {value}" for name, value in about.items() if name not in ("sessions", "toy")]
    facts.append(f"- {', '.join(dict.fromkeys(s['date'] for s in about['sessions']))}")
    title = "A rehearsal without a GPU: no number here says anything" if about["toy"] else "Measured on a GPU"
    parts = [f"# {title}\n", "\n".join(facts) + "\n"]
    others = [row for row in rows if row["stage"] != "time" and "error" not in row]
    if others:
        cells = [[row["stage"], row["name"], row["precision"] or "", values(row)] for row in others]
        parts.append(markdown(["", "of", "precision", "found"], cells))
    timed = [row for row in rows if row["stage"] == "time"]
    wrong = wrong_kernels(rows)
    for precision in dict.fromkeys(row["precision"] for row in timed):
        of = [row for row in timed if row["precision"] == precision]
        parts.append(
            f"Training step in {precision}, ratio to cuDNN's `nn.LSTM` without a norm in the same rounds (median and "
            f"quartiles), and ms; the bar is {BAR}, the goal {GOAL}:\n"
        )
        parts.append(of_shapes(of, spread, wrong, judge=True))
        parts.append(f"Its peak memory in {precision}, ratio to cuDNN's, and MB:\n")
        parts.append(of_shapes(of, memory, wrong, judge=False))
    failed = [f"- {' '.join(filter(None, (row['stage'], row['name'], shape(row), row['precision'])))}: {row['error']}"
              for row in rows if "error" in row]  # fmt: skip
    if failed:
        parts.append("Failed:\n\n" + "\n".join(failed) + "\n")
    return "\n".join(parts)
