"""Draws results/times.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

SWEEPS = {"batch": "rows of the batch", "steps": "time steps", "units": "hidden units"}


def plot(results: Path) -> None:
    """One bar chart of the tasks' ratios and one curve for each dimension, for the largest number of threads."""
    with (results / "times.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["mode"] in ("train", "eval") and row["ratio"]]
    threads = max(int(row["threads"]) for row in rows)
    rows = [row for row in rows if int(row["threads"]) == threads]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")

    tasks = [row for row in rows if row["suite"] == "tasks" and row["subject"] == "LSTM cpu"]
    names = list(dict.fromkeys(row["name"] for row in tasks))
    bars = [("train", "0", "training"), ("train", "1", "training, huge pages for both"),
            ("eval", "0", "evaluation")]  # fmt: skip
    for i, (mode, huge, label) in enumerate(bars):
        chosen = {r["name"]: r for r in tasks if r["mode"] == mode and r["huge_pages"] == huge}
        found = [n for n in names if n in chosen]
        values = [float(chosen[n]["ratio"]) for n in found]
        spread = [
            [float(chosen[n]["ratio"]) - float(chosen[n]["ratio_25"]) for n in found],
            [float(chosen[n]["ratio_75"]) - float(chosen[n]["ratio"]) for n in found],
        ]
        places = [names.index(n) + (i - 1) * 0.27 for n in found]
        axes[0, 0].bar(places, values, 0.25, yerr=spread, label=label)
    axes[0, 0].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].set_xticks(range(len(names)), names, rotation=20)
    axes[0, 0].set_ylabel("time of BN-LSTM / nn.LSTM")
    axes[0, 0].legend(fontsize=8)

    for axis, (suite, label) in zip(axes.flat[1:], SWEEPS.items(), strict=True):
        for subject in ("nn.LSTM", "LSTM cpu", "nn.GRU", "GRU cpu", "nn.RNN", "RNN cpu"):
            chosen_rows = [
                r for r in rows
                if r["suite"] == suite and r["subject"] == subject and r["mode"] == "train" and r["huge_pages"] == "0"
            ]  # fmt: skip
            per = [float(r["milliseconds"]) / float(r["steps"]) for r in chosen_rows]
            style = "-" if subject.endswith("cpu") else "--"
            axis.plot([int(r[suite]) for r in chosen_rows], per, style, marker="o", markersize=3, label=subject)
        if not axis.lines or not any(len(line.get_xdata()) for line in axis.lines):
            axis.set_axis_off()  # a suite that was not run
            continue
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel(label)
        axis.set_ylabel("ms a step, training")
    if axes[0, 1].axison:
        axes[0, 1].legend(fontsize=8)
    figure.suptitle(f"Batch-normalized layers beside torch.nn, float32, {threads} threads")
    figure.savefig(results / "times.png", dpi=110)
