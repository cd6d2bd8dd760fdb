"""Like for like: what of ours stands beside which number of the papers, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.folders import BITS, FACTS, WORDS, evaluated, single, trained, write_run

from bnrnn.figures.paper import paper_figure
from bnrnn.report.comparison import Comparison, compare
from bnrnn.report.groups import Group, group
from bnrnn.report.runs import read_run


def latest(found: Group) -> Comparison:
    return next(row for row in compare(found) if row.latest)


def test_the_latest_value_is_compared_at_the_same_number_of_updates(tmp_path: Path) -> None:
    rows = [evaluated(update, 100, accuracy=value) for update, value in ((0, 0.1), (500, 0.5), (1250, 0.75))]
    row = latest(single(tmp_path / "a", rows=rows, complete=False))
    paper = paper_figure("pmnist")
    assert paper is not None
    curve = paper.curve("recurrent", "accuracy")
    assert curve is not None
    left, right = (curve.values[curve.updates.index(update)] for update in (1000, 1500))
    assert row.paper == pytest.approx((left + right) / 2, abs=1e-9)
    assert row.difference == pytest.approx(0.75 - (left + right) / 2)
    assert row.verdict == "better"
    assert row.where == "Cooijmans et al. 2017, Figure 3"


def test_other_rows_are_not_compared_and_the_table_says_so(tmp_path: Path) -> None:
    row = latest(single(tmp_path / "a", rows=[evaluated(500, 1000, accuracy=0.9)]))
    assert row.paper == 0.5448
    assert row.difference is None
    assert row.verdict == ""
    assert row.obstacle == "statistics of 1,000 rows, the paper's of 100"
    assert "batch statistics of 1,000 rows" in row.what


def test_without_batch_normalization_rows_do_not_matter(tmp_path: Path) -> None:
    row = latest(single(tmp_path / "a", norm="none", rows=[evaluated(500, None, accuracy=0.2)]))
    assert row.obstacle is None
    assert row.difference == pytest.approx(0.2 - 0.3257)
    assert row.verdict == "worse"


def test_an_earlier_version_took_neighbours_whatever_the_config_says(tmp_path: Path) -> None:
    row = evaluated(500, accuracy=0.9)
    del row["rows"]
    evaluation = {"test": {"population": {"accuracy": 0.9}}}
    found = compare(single(tmp_path / "a", rows=[row], evaluation=evaluation, evaluation_batch_size=100))
    assert [row.difference for row in found] == [None, None]
    assert {row.obstacle for row in found} == {"batches of neighbours in the file, the paper's shuffled"}
    assert "batch statistics of neighbours in the file" in found[0].what
    assert latest(single(tmp_path / "b", norm="none", rows=[row], evaluation_batch_size=100)).obstacle is None


def test_streams_of_an_earlier_version_were_as_they_are_now(tmp_path: Path) -> None:
    row = evaluated(20, batch_perplexity=121.0)
    del row["rows"]
    found = single(tmp_path / "a", "ptb-word-large", "input-frame", [row], {**WORDS, "figure": None}, batch_size=32)
    assert latest(found).rows == 32


def test_a_value_of_the_full_length_is_not_compared_with_a_part(tmp_path: Path) -> None:
    evaluation = {"test": {"population": {"accuracy": 0.9, "error": 0.1, "loss": 1.0, "rows": 5000}}}
    for name, complete, difference in (("a", False, None), ("b", True, 0.9 - 0.954)):
        found = single(tmp_path / name, evaluation=evaluation, complete=complete)
        test = next(row for row in compare(found) if row.split == "test")
        assert (test.paper, test.where) == (0.954, "Cooijmans et al. 2017, Table 1")
        assert test.difference == (difference if difference is None else pytest.approx(difference))
        assert test.obstacle == (None if complete else "the paper's is of the full length")


@pytest.mark.parametrize(
    ("report", "norm"),
    [
        ({**FACTS, "comparable": "units is 10, in the paper 100"}, "recurrent"),
        ({**FACTS, "figure": None, "comparable": "it is not in the papers"}, "recurrent"),
        (FACTS, "layer"),
    ],
)
def test_other_models_are_not_compared(tmp_path: Path, report: dict[str, Any], norm: str) -> None:
    evaluation = {"test": {"population": {"accuracy": 0.9}}}
    rows = compare(single(tmp_path / "a", norm=norm, report=report, evaluation=evaluation))
    assert len(rows) == 2
    assert all(row.paper is None and row.difference is None for row in rows)


def test_training_values_are_means_up_to_the_selected_model(tmp_path: Path) -> None:
    rows = [
        evaluated(0, batch_perplexity=900.0, perplexity=800.0),
        *(trained(update, loss=1.0, perplexity=value) for update, value in ((5, 300.0), (10, 200.0))),
        evaluated(10, batch_perplexity=130.0, perplexity=120.0),
        *(trained(update, loss=1.0, perplexity=value) for update, value in ((15, 100.0), (20, 80.0))),
        evaluated(20, batch_perplexity=121.0, perplexity=118.0),
        *(trained(update, loss=1.0, perplexity=value) for update, value in ((25, 60.0), (30, 50.0))),
        evaluated(30, batch_perplexity=125.0, perplexity=122.0),
    ]
    evaluation = {"valid": {"batch": {"batch_perplexity": 121.0, "perplexity": 118.0, "rows": None}}}
    found = single(tmp_path / "a", "ptb-word-small", "none", rows, WORDS, evaluation, selected=20)
    values = {(row.split, row.metric, row.where[-7:]): (row.ours.mean, row.paper) for row in compare(found)}
    assert values["train", "perplexity", "Table 2"] == (90.0, 78.5)
    assert values["valid", "batch_perplexity", "Table 2"] == (121.0, 119.2)
    assert values["valid", "batch_perplexity", " epochs"] == (121.0, 119.5)
    assert values["valid", "perplexity", ""] == (118.0, None)


def test_lower_is_better_where_the_config_says_so(tmp_path: Path) -> None:
    row = latest(single(tmp_path / "a", "ptb-char", "none", [evaluated(791, bpc=2.3)], BITS))
    assert row.paper == 2.2225
    assert row.verdict == "worse"


def test_every_metric_of_the_headlines_kind_is_told(tmp_path: Path) -> None:
    metrics = {"loss": 1.0, "bpc": 1.5, "error": 0.3, "bpc_1000": 1.45, "bpc_sequence": 1.4}
    report = {**BITS, "figure": None, "comparable": "it is not in the papers"}
    evaluation = {"test": {"population": metrics}}
    found = compare(single(tmp_path / "a", "char-lm", "none", [], report, evaluation))
    assert {row.metric: row.ours.mean for row in found} == {"bpc": 1.5, "bpc_1000": 1.45, "bpc_sequence": 1.4}
    told = [row.what for row in found]
    assert any("bits per character, pieces of 1,000" in what for what in told)
    assert any("bits per character, as one sequence" in what for what in told)


def test_a_variant_is_named_where_it_is_no_norm(tmp_path: Path) -> None:
    report = {
        **FACTS, "headline": "error", "better": "lower", "figure": "cnn-top4", "variant": "BN-e*"
    }  # fmt: skip
    row = latest(single(tmp_path / "a", "cnn-top4", rows=[evaluated(10_000, 40, error=0.7)], report=report))
    assert row.paper == pytest.approx(0.704, abs=0.001)
    assert row.verdict == "better"


def test_runs_of_several_seeds_are_a_mean_with_its_deviation(tmp_path: Path) -> None:
    for seed, value in ((1, 0.5), (2, 0.6), (3, 0.7)):
        rows = [evaluated(500, 100, accuracy=value), *([evaluated(1000, 100, accuracy=0.9)] if seed < 3 else [])]
        evaluation = {"test": {"population": {"accuracy": value + 0.1, "rows": 5000}}}
        write_run(tmp_path / str(seed), rows=rows, seed=seed, evaluation=evaluation, complete=seed < 3)
    write_run(tmp_path / "other", seed=4, rho=0.5)
    groups = group(read_run(path) for path in sorted(tmp_path.iterdir()))
    assert [found.label for found in groups] == ["lstm-recurrent, 3 seeds", "lstm-recurrent-seed4"]
    row = latest(groups[0])
    assert (row.update, row.ours.mean) == (500, pytest.approx(0.6))
    assert row.ours.deviation == pytest.approx(0.1)
    assert row.difference == pytest.approx(0.6 - 0.5448)
    assert not groups[0].complete
    assert groups[0].length == "500 of 100,000 (partial)"
    test = next(row for row in compare(groups[0]) if row.split == "test")
    assert test.ours.mean == pytest.approx(0.7)


def test_a_run_in_two_folders_is_one_and_a_repetition_is_not_a_seed(tmp_path: Path) -> None:
    short = [evaluated(500, 100, accuracy=0.5)]
    write_run(tmp_path / "record", rows=short, started="at noon")
    write_run(tmp_path / "run", started="at noon")
    write_run(tmp_path / "again", started="at night")
    groups = group(read_run(tmp_path / name) for name in ("record", "run", "again"))
    assert [[run.path.name for run in found.runs] for found in groups] == [["run"], ["again"]]
    assert groups[0].first.updates == 1000


def test_a_folder_of_an_earlier_version_is_told_how_to_be_compared(tmp_path: Path) -> None:
    text = single(tmp_path / "a", "char-lm", report=None, rows=[evaluated(5, bpc=2.0, accuracy=0.5)], units=9)
    assert (text.facts.headline, text.facts.better, text.label) == ("bpc", "lower", "lstm-recurrent-seed1 (units 9)")
    assert "bnrnn record brings it to this one" in (text.facts.obstacle or "")
    assert all(row.paper is None for row in compare(text))
