"""The reading benchmark: each measurement runs, and the documentation shows the committed results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import reading


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("VOCABULARY", 30), ("BATCH", 4), ("UNITS", 5)):
        monkeypatch.setattr(reading, name, value)


@pytest.mark.usefixtures("small")
def test_updates_are_timed_in_pairs() -> None:
    found = reading.measure("bn-e-star-star", 9, pairs=3)
    assert found["pairs"] == 3
    assert found["seconds"] > 0
    assert found["ratio"] > 0
    assert reading.memory("bn-lstm", 9) > 1


def test_a_made_up_corpus_is_prepared_within_a_process_of_its_own() -> None:
    found = reading.corpus(60)
    assert found["questions"] == 60
    assert 0 < found["peak_mib"] < 1024
    assert found["cache_bytes"] > 4 * 60 * 390


def test_the_documentation_has_the_committed_results() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reading.md").read_text("utf-8")
    shown = re.findall(r"^\| \d+ words \|.*\|$", text, re.MULTILINE)
    assert shown == reading.table().splitlines()[2:]
