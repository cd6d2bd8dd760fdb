"""Metrics to Weights & Biases: what is sent, and what is said where it cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runs import PLAN, rows, run
from toy import ToyTask

from bnrnn.training import RunError
from bnrnn.training.loggers import WandbLogger


def service(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[Any]:
    """Stands in for the package, and returns what it is told."""
    told: list[Any] = []

    def init(**options: Any) -> Any:
        told.append(options)
        if error is not None:
            raise error
        return SimpleNamespace(
            id="1",
            name=options["name"],
            log=lambda metrics, step: told.append((step, metrics)),
            finish=lambda exit_code: told.append(exit_code),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=ConnectionError))
    return told


def test_every_row_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = service(monkeypatch)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    run(tmp_path / "a", ToyTask(PLAN), loggers=[WandbLogger(tmp_path / "a", "toy-1", {"seed": 1})])
    first, *sent, last = told
    assert (first["project"], first["name"], first["config"]) == ("bnrnn", "toy-1", {"seed": 1})
    assert last == 0
    found = rows(tmp_path / "a")
    assert [step for step, _ in sent] == [row["update"] for row in found]
    for (_, metrics), row in zip(sent, found, strict=True):
        place = "train" if row["kind"] == "train" else f"evaluation/valid/{row['statistics']}"
        assert metrics[f"{place}/loss"] == row["loss"]


def test_a_service_that_is_not_there_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service(monkeypatch, ConnectionError("no API key\nconfigured"))
    with pytest.raises(RunError, match=r"^wandb does not start .no API key configured"):
        WandbLogger(tmp_path, "toy", {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RunError, match=r"--wandb needs the package wandb: pip install 'bnrnn\[wandb\]'"):
        WandbLogger(tmp_path, "toy", {})
