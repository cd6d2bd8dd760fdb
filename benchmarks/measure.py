"""Timing in one process: all subjects of a shape in turn, round after round. Prints JSON lines."""

from __future__ import annotations

import gc
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bnrnn
from benchmarks.subjects import PEER, SUITES, Shape, Subject


def seconds(subject: Any) -> float:
    started = time.perf_counter()
    subject()
    return time.perf_counter() - started


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def rounds_within(subjects: list[Any], budget: float) -> int:
    """So many rounds that they take about `budget` seconds: at least 5, at most 51."""
    once = sum(min(seconds(s), seconds(s)) for s in subjects)
    return max(5, min(51, int(budget / once)))


def measure_shape(shape: Shape, names: list[str], mode: str, budget: float) -> list[dict[str, Any]]:
    subjects = {name: Subject(name, shape, mode) for name in names}
    rounds = rounds_within(list(subjects.values()), budget)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    for _ in range(rounds):
        for name, subject in subjects.items():
            times[name].append(seconds(subject))
    rows = []
    for name in names:
        peer = PEER.get(name, "nn.LSTM")
        low, middle, high = quartiles(times[name])
        ratio_low, ratio, ratio_high = quartiles([a / b for a, b in zip(times[name], times[peer], strict=True)])
        rows.append({
            "subject": name, "mode": mode, "peer": peer, "rounds": rounds,
            "milliseconds": middle * 1e3, "milliseconds_25": low * 1e3, "milliseconds_75": high * 1e3,
            "ratio": ratio, "ratio_25": ratio_low, "ratio_75": ratio_high,
        })  # fmt: skip
    return rows


def emit(suite: str, shape: Shape, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        sizes = {"steps": shape.steps, "batch": shape.batch, "inputs": shape.inputs, "units": shape.units}
        print(json.dumps({"suite": suite, "name": shape.name, **sizes, **row}), flush=True)


def run_suite(suite: str, subjects: list[str], budget: float, with_slow: bool) -> None:
    for shape in SUITES[suite]:
        slow = ["LSTM reference"] if with_slow and suite == "tasks" else []
        for mode in ("train", "eval"):
            emit(suite, shape, measure_shape(shape, [*subjects, *slow], mode, budget))
        if slow:
            emit(suite, shape, measure_shape(shape, ["nn.LSTM", "LSTM compiled cell"], "train", budget / 2)[1:])


def run_stream(budget: float) -> None:
    """One step a call, one row: microseconds beside an LSTMCell."""
    for units in (64, 128, 256, 512, 1024, 2048):
        inputs = 50
        x = torch.randn(1, inputs)
        cell = nn.LSTMCell(inputs, units).eval()
        layer = bnrnn.LSTM(inputs, units, norm="recurrent")
        with torch.no_grad():
            layer(torch.randn(3, 8, inputs))
        stream = layer.eval().stream()
        state: list[Any] = [None]

        def step_cell(cell: nn.LSTMCell = cell, x: torch.Tensor = x, state: list[Any] = state) -> None:
            with torch.inference_mode():
                for _ in range(200):
                    state[0] = cell(x, state[0])

        def step_stream(stream: Any = stream, x: torch.Tensor = x) -> None:
            with torch.inference_mode():
                for _ in range(200):
                    stream(x)

        rounds = rounds_within([step_cell, step_stream], budget / 2)
        times: dict[str, list[float]] = {"nn.LSTMCell": [], "LSTM stream": []}
        for _ in range(rounds):
            times["nn.LSTMCell"].append(seconds(step_cell) / 200)
            times["LSTM stream"].append(seconds(step_stream) / 200)
        rows = []
        for name in times:
            low, middle, high = quartiles(times[name])
            pairs = zip(times[name], times["nn.LSTMCell"], strict=True)
            ratio_low, ratio, ratio_high = quartiles([a / b for a, b in pairs])
            rows.append({
                "subject": name, "mode": "stream", "peer": "nn.LSTMCell", "rounds": rounds,
                "milliseconds": middle * 1e3, "milliseconds_25": low * 1e3, "milliseconds_75": high * 1e3,
                "ratio": ratio, "ratio_25": ratio_low, "ratio_75": ratio_high,
            })  # fmt: skip
        emit("stream", Shape(1, 1, inputs, units), rows)


def resident_kilobytes(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1])


def measure_memory(name: str, shape: Shape) -> None:
    """Peak of resident memory over what was there before, of the process's first training step of this shape."""
    small = Subject(name, Shape(2, 4, 3, 8), "train")
    small()  # libraries and thread pools
    subject = Subject(name, shape, "train")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kilobytes("VmRSS")
    subject()
    peak = resident_kilobytes("VmHWM") - before
    emit("memory", shape, [{"subject": name, "mode": "train", "peer": "nn.LSTM", "megabytes": peak / 1024}])
