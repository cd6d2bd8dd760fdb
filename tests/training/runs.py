"""Runs of the toy task, and what they leave."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from toy import ToyTask

from bnrnn.training import Options, Plan, RunFolder, train
from bnrnn.training.checkpoint import load
from bnrnn.training.display import Display

CONFIG = {
    "experiment": "toy",
    "label": "toy",
    "evaluation_options": ["evaluate_every"],
    "config": {"seed": 1, "evaluate_every": 0},
    "precision": "32-true",
}
PLAN = Plan(updates=40, log_every=3, population_every=20, clip=1.0)


def run(
    path: Path, task: ToyTask, max_updates: int | None = None, resume: bool = False, loggers: list[Any] | None = None
) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.open(CONFIG, resume)
    try:
        folder.check_sources(task.sources)
        folder.begin(CONFIG, task.sources)
        fabric = Fabric(accelerator="cpu", devices=1, loggers=loggers)
        display = Display(Console(file=io.StringIO()), "toy", quiet=True)
        return train(fabric, task, folder, Options(max_updates), display)
    finally:
        folder.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock decides."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    first, second = (load(path / "checkpoint.safetensors") for path in (a, b))
    assert_same_tensors(first[0], second[0])
    places = [{k: v for k, v in facts.items() if k not in ("seconds", "metrics_bytes")} for _, facts in (first, second)]
    assert places[0] == places[1]
    assert rows(a) == rows(b)


def assert_same_tensors(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def training(tensors: dict[str, Any]) -> dict[str, Any]:
    """What of a checkpoint the training goes on from."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("best/")}
