"""The results as tables in Markdown; those of the committed results stand in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.store import Results
from benchmarks.subjects import SUBJECTS

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- written by python -m benchmarks table --write; do not edit -->"
END = "<!-- end -->"
SWEEPS = {"batch": "rows", "steps": "time steps", "units": "units"}
FORMS = {
    "plain": "with a plain tensor",
    "packed": "with packed sequences of a quarter to all of the steps",
    "projected": "with `proj_size` of half the units",
}

Row = Mapping[str, str]
Setting = tuple[str, str]  # threads, huge pages


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that have no cell."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[head[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def shape(row: Row) -> str:
    return " x ".join(row[size] for size in ("steps", "batch", "inputs", "units"))


def where(setting: Setting) -> str:
    threads, huge = setting
    return f"{threads} thread{'s' if threads != '1' else ''}{', huge pages' if huge == '1' else ''}"


def ratio(row: Row) -> str:
    return f"{float(row['ratio']):.2f}"


def spread(row: Row) -> str:
    return f"{ratio(row)} ({float(row['ratio_25']):.2f}-{float(row['ratio_75']):.2f})"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def pair(column: str, scale: float = 1.0) -> Callable[[Row], str]:
    """Ours and the peer's."""
    return lambda row: f"{number(float(row[column]) * scale)} / {number(float(row[f'peer_{column}']) * scale)}"


def step_microseconds(row: Row) -> str:
    return pair("milliseconds", 1e3 / int(row["steps"]))(row)


Column = tuple[str, Callable[[Row], bool], Callable[[Row], str]]


def table(rows: Iterable[Row], label: str, first: Callable[[Row], str], columns: Sequence[Column]) -> str:
    """A line for every label in the order of the rows; a column is a heading, which row it shows, and how."""
    rows = list(rows)
    cells: list[list[str]] = []
    for name in dict.fromkeys(first(row) for row in rows):
        of_name = [row for row in rows if first(row) == name]
        cells.append([name, *(next((show(r) for r in of_name if which(r)), "") for _, which, show in columns)])
    return markdown([label, *(heading for heading, _, _ in columns)], cells)


def has(subject: str | None = None, mode: str | None = None, setting: Setting | None = None) -> Callable[[Row], bool]:
    return lambda row: (
        (subject is None or row["subject"] == subject)
        and (mode is None or row["mode"] == mode)
        and (setting is None or (row["threads"], row["huge_pages"]) == setting)
    )


def facts(about: Mapping[str, Any]) -> str:
    sessions = about["sessions"]
    dates = dict.fromkeys([sessions[0]["date"], sessions[-1]["date"]])
    parts = [
        f"{about['processor']}, {about['cores']} cores, {about['system']}",
        f"kernels for {about['kernels'].get('instruction_set', 'nothing')}",
        f"torch {about['torch']}, Python {about['python']}",
        " to ".join(dates),
        *([f"commit {about['commit']}"] if about.get("commit") else []),
        *([f"{about['budget']:g} s for each of the LSTM's tasks"] if about.get("budget") else []),
    ]
    return f"Measured on {'; '.join(parts)}.\n" + (f"{about['note']}\n" if about.get("note") else "")


def tables(results: Results) -> str:
    """All that was measured, but for sweeps of GRU and RNN and their tasks with huge pages, which times.csv has."""
    rows = list(results.rows()) if results.table.exists() else []
    settings = sorted({(row["threads"], row["huge_pages"]) for row in rows}, key=lambda s: (-int(s[0]), s[1]))
    if not rows:
        return "Nothing was measured yet.\n"
    default, *_ = settings
    plain = [setting for setting in settings if setting[1] == "0"]
    parts = [facts(results.facts())]
    others = [subject for subject in SUBJECTS.values() if subject.name != "LSTM cpu"]

    def add(title: str, suite: str, label: str, first: Callable[[Row], str], columns: Sequence[Column]) -> None:
        chosen = [row for row in rows if row["suite"] == suite and any(which(row) for _, which, _ in columns)]
        if chosen:
            parts.append(f"{title}\n\n{table(chosen, label, first, columns)}")

    for mode, title in (("train", "Training step"), ("eval", "Evaluation")):
        lstm = [(where(s), has("LSTM cpu", mode, s), spread) for s in settings]
        ms = (f"ms, {where(default)}", has("LSTM cpu", mode, default), pair("milliseconds"))
        add(f"{title} of the BN-LSTM, ratio to `nn.LSTM`:", "tasks", "task", shape, [lstm[0], ms, *lstm[1:]])
    for mode, title in (("train", "Training step"), ("eval", "Evaluation")):
        columns = [(f"{subject.title}, {where(s)}", has(subject.name, mode, s), spread)
                   for subject in others for s in plain]  # fmt: skip
        add(f"{title} of the others, ratios:", "tasks", "task", shape, columns)
    memory: list[Column] = []
    for subject in SUBJECTS.values():
        for setting in settings:
            chosen = has(subject.name, "train", setting)
            memory.append((f"{subject.title}, {where(setting)}", chosen, ratio))
            if subject.name == "LSTM cpu" and setting == default:
                memory.append(("MB", chosen, pair("megabytes")))
                memory.append(("MB kept between steps", lambda row, chosen=chosen: chosen(row)
                               and bool(row["kept_megabytes"]), pair("kept_megabytes")))  # fmt: skip
    add("Peak memory of training steps, ratio:", "memory", "task", shape, memory)
    for suite, label in SWEEPS.items():
        columns = []
        for setting in plain:
            for mode, text in (("train", "training"), ("eval", "evaluation")):
                columns.append((f"{text}, {where(setting)}", has("LSTM cpu", mode, setting), spread))
                if mode == "train" or suite == "batch":
                    columns.append((f"us a step, {text}", has("LSTM cpu", mode, setting), step_microseconds))
        fixed = next((shape({**row, suite: "..."}) for row in rows if row["suite"] == suite), "")
        rows.sort(key=lambda row, s=suite: int(row[s]) if row["suite"] == s else 0)
        add(f"BN-LSTM and `nn.LSTM` at {fixed}:", suite, label, lambda row, s=suite: row[s], columns)
    stream: list[Column] = []
    for setting in settings:
        stream.append((where(setting), has(setting=setting), spread))
        stream.append(("us a step", has(setting=setting), pair("milliseconds", 1e3)))
    add("A streamed step of the BN-LSTM, ratio to `nn.LSTMCell`:", "stream", "units", lambda row: row["units"], stream)
    for suite, text in FORMS.items():
        columns = [(f"{subject.title}, {how}, {where(s)}", has(subject.name, mode, s), spread) for subject in others
                   for mode, how in (("train", "training"), ("eval", "evaluation")) for s in plain]  # fmt: skip
        add(f"Layers without a norm {text}, ratios:", suite, "task", shape, columns)
    return "\n".join(parts)


def of_folders(folder: Path) -> str:
    """The tables of a folder's results and of those in its own folders."""
    found = [Results(path.parent) for path in sorted(folder.glob("**/times.csv"), key=lambda path: len(path.parts))]
    return "\n".join(map(tables, found or [Results(folder)]))


def between(page: str) -> tuple[str, str, str]:
    """A page before, in and after the place of the tables."""
    before, rest = page.split(BEGIN)
    inside, after = rest.split(END)
    return before + BEGIN, inside, END + after


def write(text: str, page: Path = README) -> None:
    before, _, after = between(page.read_text())
    page.write_text(f"{before}\n\n{text}\n{after}")
