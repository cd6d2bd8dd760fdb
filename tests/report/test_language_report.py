"""What the report says of language models, from run folders written here by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bnrnn.figures.paper import paper_experiment, paper_lengths
from bnrnn.report.page import compare, summary_table, write_report
from bnrnn.report.runs import read_run


def write_run(
    folder: Path, experiment: str, rows: list[dict[str, Any]], evaluation: dict[str, Any], **options: Any
) -> Path:
    folder.mkdir(parents=True)
    config = {"cell": "lstm", "norm": "none", "seed": 1, **options}
    described = {"experiment": experiment, "label": "lstm-none-seed1", "changed": options, "config": config}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {
        "status": "complete",
        "updates": 40,
        "planned_updates": 40,
        "seconds": 5.0,
        "selected": {"update": 20, "by": "batch_perplexity", "value": 2.0},
        "evaluation": evaluation,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def evaluated(update: int, **metrics: float) -> dict[str, Any]:
    return {"kind": "evaluation", "update": update, "split": "valid", "statistics": "batch", **metrics}


def trained(update: int, perplexity: float) -> dict[str, Any]:
    return {"kind": "train", "update": update, "loss": 1.0, "perplexity": perplexity}


def test_training_perplexity_is_the_mean_over_the_selected_epoch(tmp_path: Path) -> None:
    rows = [
        evaluated(0, batch_perplexity=900.0, perplexity=800.0),
        *(trained(update, value) for update, value in ((5, 300.0), (10, 200.0))),
        evaluated(10, batch_perplexity=130.0, perplexity=120.0),
        *(trained(update, value) for update, value in ((15, 100.0), (20, 80.0))),
        evaluated(20, batch_perplexity=121.0, perplexity=118.0),
        *(trained(update, value) for update, value in ((25, 60.0), (30, 50.0))),
        evaluated(30, batch_perplexity=125.0, perplexity=122.0),
    ]
    evaluation = {"valid": {"batch": {"batch_perplexity": 121.0, "perplexity": 118.0}}}
    run = read_run(write_run(tmp_path / "a", "ptb-word-small", rows, evaluation))
    assert run.training_perplexity() == 90.0
    found = {(row.split, row.metric, row.latest): (row.ours, row.paper) for row in compare(run)}
    assert found["train", "batch_perplexity", False] == (90.0, 78.5)
    assert found["valid", "batch_perplexity", False] == (121.0, 119.2)


def test_the_overview_has_the_selected_model_where_the_paper_has_no_curve(tmp_path: Path) -> None:
    rows = [evaluated(20, batch_perplexity=121.0), evaluated(40, batch_perplexity=130.0)]
    evaluation = {"valid": {"batch": {"batch_perplexity": 121.0}}}
    whole = read_run(write_run(tmp_path / "a", "ptb-word-small", rows, evaluation))
    part = read_run(write_run(tmp_path / "b", "ptb-word-small", rows, evaluation))
    assert part.result is not None
    part.result["status"] = "partial"
    head, found = summary_table([whole, part])
    shown = [[row[head.index(name)] for name in ("validation", "paper there", "difference")] for row in found]
    assert shown == [["121.0", "119.2", "+1.8000"], ["130.0", "", ""]]


def test_a_run_of_characters_has_no_training_perplexity(tmp_path: Path) -> None:
    rows = [evaluated(0, bpc=5.0), evaluated(791, bpc=2.3)]
    evaluation = {"test": {"population": {"bpc": 1.5, "bpc_sequence": 1.4}}}
    run = read_run(write_run(tmp_path / "a", "ptb-char", rows, evaluation))
    assert run.training_perplexity() is None
    rows_found = compare(run)
    latest = next(row for row in rows_found if row.latest)
    assert (latest.ours, latest.paper) == (2.3, 2.2225)
    sequence = next(row for row in rows_found if row.metric == "bpc_sequence")
    assert (sequence.ours, sequence.paper) == (1.4, 1.38)


def test_a_slice_of_text8_is_called_that_and_not_compared(tmp_path: Path) -> None:
    evaluation = {"test": {"population": {"bpc": 1.5, "bpc_sequence": 1.4}}}
    run = read_run(write_run(tmp_path / "a", "text8", [evaluated(0, bpc=5.0)], evaluation, slice=6_877_825))
    assert "slice 6877825" in run.label
    assert all(row.paper is None for row in compare(run))


def test_measured_lengths_are_drawn(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", "ptb-char", [evaluated(0, bpc=5.0), evaluated(791, bpc=2.3)], {})
    record = {"update": 791, "norm": "none", "lengths": [100, 200], "bpc": {"population": [1.5, 1.4]}}
    (folder / "lengths.json").write_text(json.dumps(record))
    page = write_report([read_run(folder)], tmp_path / "report", "bnrnn report")
    assert (tmp_path / "report/ptb-char-lengths.png").read_bytes().startswith(b"\x89PNG")
    assert page.read_text().count("data:image/png") == 3


def test_the_papers_language_model_numbers() -> None:
    for curve in paper_lengths():
        assert curve.lengths == tuple(range(100, 1001, 100))
    lstm, population, batch = paper_lengths()
    assert (lstm.values[0], population.values[0], batch.values[0]) == (1.4487, 1.398, 1.4201)
    assert all(p < b < x for p, b, x in zip(population.values, batch.values, lstm.values, strict=True))
    printed = {
        name: [(r.norm, r.split, r.value) for r in paper.results]
        for name in ("small", "medium", "large")
        if (paper := paper_experiment(f"ptb-word-{name}"))
    }
    assert printed == {
        "small": [
            ("none", "train", 78.5),
            ("input-frame", "train", 62.5),
            ("none", "valid", 119.2),
            ("input-frame", "valid", 120.9),
        ],
        "medium": [
            ("none", "train", 49.1),
            ("input-frame", "train", 41.0),
            ("none", "valid", 89.0),
            ("input-frame", "valid", 90.6),
        ],
        "large": [
            ("none", "train", 49.3),
            ("input-frame", "train", 35.0),
            ("none", "valid", 81.8),
            ("input-frame", "valid", 97.4),
        ],
    }
    large = paper_experiment("ptb-word-large")
    assert large is not None
    assert large.curves["input-frame"].at(16 * 829) == pytest.approx(94.7)
    assert min(large.curves["none"].values) == 82
