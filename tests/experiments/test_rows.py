"""Validation metrics over the number of rows that batch statistics are taken of."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import bnrnn
from bnrnn.experiments.opened import open_run
from bnrnn.experiments.pixels.digits import DIGITS
from bnrnn.experiments.rows import measure
from bnrnn.training import Purpose, RunError, RunFolder, generator
from bnrnn.training.session import Session, run


def train(folder: Path, **options: object) -> Path:
    config = dataclasses.replace(DIGITS.config, units=5, epochs=1, initial_state="learnt", **options)  # type: ignore[arg-type]
    session = Session(max_updates=24, quiet=True, device="cpu")
    run(DIGITS.describe(config), lambda: DIGITS.build(config), session, RunFolder(folder), "test")
    return folder


def test_the_validation_part_with_batches_of_each_number_of_rows(tmp_path: Path) -> None:
    folder = train(tmp_path / "run")
    lines: list[str] = []
    record = measure(folder, (2, 40, 148, 400), device="cpu", tell=lines.append)
    assert record["rows"] == [2, 40, 148]  # the validation part has 297 images
    assert len(lines) == 4
    assert json.loads((folder / "rows.json").read_text()) == record
    opened = open_run(folder, device="cpu")
    images, labels = opened.task.parts["valid"]
    order = torch.randperm(297, generator=generator(opened.config.seed, Purpose.EVALUATION))
    for place, cuts in ((0, [2] * 147 + [3]), (1, [40] * 7 + [17]), (2, [148, 149])):  # no row is left alone
        losses = []
        with torch.no_grad(), bnrnn.batch_statistics(opened.model):
            for x, y in zip(images[order].split(cuts), labels[order].split(cuts), strict=True):
                losses.append(F.cross_entropy(opened.model(x.float() / 16), y, reduction="none"))
        assert record["metrics"]["loss"][place] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    result = json.loads((folder / "result.json").read_text())["evaluation"]["valid"]["population"]
    assert record["population"]["loss"] == pytest.approx(result["loss"], rel=1e-5)
    assert record["population_rows"] == 400
    assert all(math.isfinite(value) for values in record["metrics"].values() for value in values)


def test_what_depends_on_no_rows_is_refused(tmp_path: Path) -> None:
    folder = train(tmp_path / "plain", norm="none")
    with pytest.raises(RunError, match="no batch normalization"):
        measure(folder, device="cpu")
    normalized = train(tmp_path / "normalized")
    with pytest.raises(ValueError, match="rows must be at least 2, got 1"):
        measure(normalized, (100, 1), device="cpu")
    with pytest.raises(ValueError, match="rows must be at most 297"):
        measure(normalized, (1000,), device="cpu")
