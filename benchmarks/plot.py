"""Draws the results as times.svg beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.store import Results
from benchmarks.subjects import SUBJECTS
from bnrnn.figures.files import save

SWEEPS = {"batch": "rows of the batch", "steps": "time steps", "units": "hidden units"}
Row = Mapping[str, str]


def bars(axis: Axes, rows: Sequence[Row], label: Callable[[Row], str]) -> None:
    """Ratios by task with their quartiles, a colour for each label, and a line where both cost the same."""
    tasks = list(dict.fromkeys(row["name"] for row in rows))
    labels = list(dict.fromkeys(label(row) for row in rows))
    width = 0.8 / len(labels)
    for i, text in enumerate(labels):
        chosen = [row for row in rows if label(row) == text]
        middle = [float(row["ratio"]) for row in chosen]
        below = [m - float(row["ratio_25"]) for m, row in zip(middle, chosen, strict=True)]
        above = [float(row["ratio_75"]) - m for m, row in zip(middle, chosen, strict=True)]
        places = [tasks.index(row["name"]) + (i - (len(labels) - 1) / 2) * width for row in chosen]
        axis.bar(places, middle, 0.92 * width, yerr=[below, above], error_kw={"elinewidth": 1}, label=text)
    axis.axhline(1, color="black", linewidth=1, linestyle="--")
    axis.set_xticks(range(len(tasks)), tasks, rotation=20)
    low, high = (
        pick([1.0, *(float(row[end]) for row in rows)]) for pick, end in ((min, "ratio_25"), (max, "ratio_75"))
    )
    if high > 4:  # the eager ones
        axis.set_yscale("log")
        axis.set_ylim(low / 1.5, high * (high / low) ** 0.25)
        axis.yaxis.set_major_formatter("{x:g}")
    else:
        axis.set_ylim(0, 1.25 * high)
    axis.set_ylabel("ratio of times")
    axis.legend(fontsize=8, loc="upper left", ncols=2)


def curves(axis: Axes, rows: Sequence[Row], suite: str) -> None:
    """Cost of a step over one size, ours solid and torch's dashed."""
    for subject in dict.fromkeys(row["subject"] for row in rows):
        chosen = sorted((row for row in rows if row["subject"] == subject), key=lambda row: int(row[suite]))
        sizes = [int(row[suite]) for row in chosen]
        for column, style, name in (("", "-", SUBJECTS[subject].label), ("peer_", "--", chosen[0]["peer"])):
            middle, low, high = (
                [1e3 * float(row[f"{column}milliseconds{end}"]) / int(row["steps"]) for row in chosen]
                for end in ("", "_25", "_75")
            )
            axis.plot(sizes, middle, style, color=SUBJECTS[subject].colour, marker="o", markersize=3, label=name)
            axis.fill_between(sizes, low, high, color=SUBJECTS[subject].colour, alpha=0.15, linewidth=0)
    axis.set_xscale("log", base=2)
    sizes = sorted({int(row[suite]) for row in rows})
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    if suite == "steps":
        axis.set_ylim(0)  # flat, or not
    else:
        axis.set_yscale("log")
    axis.set_xlabel(SWEEPS[suite])
    axis.set_ylabel("microseconds a step, training")
    axis.legend(fontsize=8)


def plot(results: Results) -> None:
    """The tasks' ratios above, the sweeps' cost of a step below; a panel whose suite was not run is left out.

    One column, so that a phone shows letters that can be read.
    """
    rows = results.rows()
    threads = max(rows, key=lambda row: int(row["threads"]))["threads"]
    first = [row for row in rows if (row["threads"], row["huge_pages"]) == (threads, "0")]
    tasks = [row for row in rows if row["suite"] == "tasks"]
    figure = Figure(figsize=(6.4, 21.6), layout="constrained")
    axes = figure.subplots(6)

    def setting(row: Row) -> str:
        threads = "1 thread" if row["threads"] == "1" else f"{row['threads']} threads"
        return f"{threads}, huge pages" if row["huge_pages"] == "1" else threads

    def versus(row: Row) -> str:
        return f"{SUBJECTS[row['subject']].label} / {row['peer']}"

    panels = {
        "BN-LSTM / nn.LSTM, training step": (tasks, "train", True),
        "BN-LSTM / nn.LSTM, evaluation": (tasks, "eval", True),
        f"The others, training step, {threads} threads": (first, "train", False),
    }
    for axis, (title, (of, mode, lstm)) in zip(axes[:3], panels.items(), strict=True):
        chosen = [r for r in of if r["suite"] == "tasks" and r["mode"] == mode and (r["subject"] == "LSTM cpu") == lstm]
        if not chosen:
            axis.set_axis_off()
            continue
        bars(axis, chosen, setting if lstm else versus)
        axis.set_title(title, fontsize=10)
    for axis, suite in zip(axes[3:], SWEEPS, strict=True):
        chosen = [row for row in first if row["suite"] == suite and row["mode"] == "train"]
        if not chosen:
            axis.set_axis_off()
            continue
        curves(axis, chosen, suite)
        fixed = " x ".join(
            "..." if size == suite else chosen[0][size] for size in ("steps", "batch", "inputs", "units")
        )
        axis.set_title(f"{fixed}, {threads} threads", fontsize=10)
    figure.suptitle("Beside torch.nn, float32: medians and quartiles; 1: as fast", fontsize=11)
    save(figure, results.table.with_name("times.svg"))
