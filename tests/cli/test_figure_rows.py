"""``bnrnn figure rows``: measured, drawn, and shown by the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bnrnn.cli import main


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "digits", "--units", "6", "--max-updates", "24", "--quiet", "--run-dir", "a") == 0
    assert call("figure", "rows", "a", "--rows", "20", "100", "--out", "new/rows.svg") == 0
    assert (tmp_path / "new" / "rows.svg").read_text().startswith("<svg")
    record = json.loads((tmp_path / "a" / "rows.json").read_text())
    with (tmp_path / "new" / "rows.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["rows"] for row in rows] == ["20", "100", "population"]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [*record["metrics"]["accuracy"], record["population"]["accuracy"]]
    )
    assert call("report", "a", "--out", "page") == 0
    assert (tmp_path / "page" / "digits-rows.svg").exists()
    capsys.readouterr()
    assert call("figure", "rows") == 2
    assert "got none" in capsys.readouterr().err
    assert call("figure", "rows", "a", "--rows", "20", "--metric", "bpc") == 2
    assert "has no bpc by rows; there are" in capsys.readouterr().err
