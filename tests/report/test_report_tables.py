"""The tables: what they say, in Markdown and on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.folders import BITS, FACTS, WORDS, evaluated, single, trained, write_run

from bnrnn.report.page import write_report
from bnrnn.report.runs import read_run
from bnrnn.report.tables import Table, comparison_table, overview, paper_table
from bnrnn.report.terminal import summary_text


def cells(table: Table, row: int = 0) -> dict[str, str]:
    return dict(zip(table.head, table.rows[row], strict=True))


def test_the_overview_names_metric_part_and_verdict(tmp_path: Path) -> None:
    evaluation = {"test": {"population": {"accuracy": 0.68, "rows": 5000}}}
    found = cells(overview([single(tmp_path / "a", complete=False, evaluation=evaluation)]))
    assert found == {
        "run": "pmnist lstm-recurrent-seed1",
        "metric": "accuracy",
        "updates": "1,000 of 100,000 (partial)",
        "validation": "0.7000",
        "paper there": "0.6560",
        "difference": "+0.0440 (better)",
        "test (batch)": "",
        "test (population)": "0.6800",
        "paper's test": "0.9540",
    }


def test_a_sweeps_trials_are_in_their_section_and_not_in_the_overview(tmp_path: Path) -> None:
    groups = [single(tmp_path / name) for name in ("alone", "sweep/gamma=.1", "sweep/gamma=.3")]
    assert [group.is_trial for group in groups] == [False, True, True]
    assert len(overview(groups).rows) == 1
    report = tmp_path / "report"
    page = write_report([group.first for group in groups], report, "bnrnn report").read_text()
    assert [picture.name for picture in sorted(report.glob("*.svg"))] == ["pmnist-training.svg", "pmnist.svg"]
    assert page.count("commit abc") == 3
    write_report([group.first for group in groups[1:]], report, "bnrnn report")
    assert not list(report.glob("*.svg"))


def test_the_overview_says_why_values_are_not_compared(tmp_path: Path) -> None:
    found = cells(overview([single(tmp_path / "a", rows=[evaluated(500, 1000, accuracy=0.9)])]))
    assert found["difference"] == "not compared: statistics of 1,000 rows, the paper's of 100"


def test_a_test_value_of_another_quantity_says_so(tmp_path: Path) -> None:
    evaluation = {"test": {"population": {"bpc": 1.5, "bpc_1000": 1.45, "bpc_sequence": 1.4}}}
    table = overview([single(tmp_path / "a", "ptb-char", "none", [evaluated(791, bpc=2.3)], BITS, evaluation)])
    assert cells(table)["metric"] == "bits per character"
    assert cells(table)["test (population)"] == "1.4000 (as one sequence)"


def test_the_selected_model_stands_where_the_paper_has_no_curve(tmp_path: Path) -> None:
    rows = [evaluated(20, batch_perplexity=121.0), evaluated(40, batch_perplexity=130.0)]
    evaluation = {"valid": {"batch": {"batch_perplexity": 121.0}}}
    groups = [
        single(tmp_path / name, "ptb-word-small", "none", rows, WORDS, evaluation, complete)
        for name, complete in (("a", True), ("b", False))
    ]
    shown = [[row[i] for i in (3, 4, 5)] for row in overview(groups).rows]
    assert shown == [["121.0", "119.2", "+1.8 (worse)"], ["130.0", "", ""]]


def test_several_seeds_are_mean_and_deviation(tmp_path: Path) -> None:
    from bnrnn.report.groups import group

    for seed, value in ((1, 0.5), (2, 0.6)):
        write_run(tmp_path / str(seed), rows=[evaluated(500, 100, accuracy=value)], seed=seed)
    found = cells(overview(group(read_run(tmp_path / name) for name in "12")))
    assert found["run"] == "pmnist lstm-recurrent, 2 seeds"
    assert found["validation"] == "0.5500 ± 0.0707"


def test_the_papers_own_table(tmp_path: Path) -> None:
    """Laurent et al. 2015, Table 1, with a run of ours below each of its rows."""
    report = {
        **FACTS,
        "headline": "fce",
        "better": "lower",
        "figure": "wsj",
        "also": ["fer"],
        "statistics": "population",
    }
    rows = [trained(5, fce=1.0, fer=0.3), trained(10, fce=0.9, fer=0.2)]
    evaluation = {"valid": {"population": {"fce": 1.3, "fer": 0.35}}}
    found = [single(tmp_path / "a", "wsj", "input-sequence", rows, report, evaluation, selected=10)]
    table = paper_table(found)
    assert table is not None
    columns = [
        "training frame cross-entropy, nats",
        "training frame error rate",
        "validation frame cross-entropy, nats",
        "validation frame error rate",
    ]
    assert table.head == ["model", "updates", *columns]
    assert table.rows == [
        ["BiRNN (paper)", "", "0.9500", "0.2800", "1.1100", "0.3300"],
        ["BiRNN (BN) (paper)", "", "0.7300", "0.2200", "1.1900", "0.3400"],
        ["lstm-input-sequence-seed1", "10", "0.9500", "0.2500", "1.3000", "0.3500"],
    ]


def test_other_data_has_a_table_of_the_papers_shape(tmp_path: Path) -> None:
    report = {**FACTS, "headline": "fce", "better": "lower", "figure": "wsj", "also": ["fer"],
              "comparable": "spoken digits, in the paper WSJ"}  # fmt: skip
    rows = [trained(5, fce=1.0, fer=0.3), trained(10, fce=0.9, fer=0.2)]
    values = {"batch": {"fce": 1.3, "fer": 0.35, "rows": 24}, "population": {"fce": 1.2, "fer": 0.3, "rows": 24}}
    table = paper_table([single(tmp_path / "a", "fsdd", "none", rows, report, {"valid": values}, selected=10)])
    assert table is not None
    assert table.rows == [["lstm-none-seed1", "10", "0.9500", "0.2500", "1.3000", "0.3500"]]
    assert paper_table([single(tmp_path / "b", report={**FACTS, "figure": None, "comparable": "no paper"})]) is None


def test_every_number_has_its_source(tmp_path: Path) -> None:
    evaluation = {"test": {"population": {"accuracy": 0.9, "rows": 5000}}}
    table = comparison_table([single(tmp_path / "a", evaluation=evaluation, complete=False)])
    found = cells(table, -1)
    assert found["source"] == "Cooijmans et al. 2017, Table 1"
    assert found["difference"] == "not compared: the paper's is of the full length"


@pytest.mark.parametrize("name", ["a|b", "a\nb", "a\\|b"])
def test_a_name_does_not_break_markdown(name: str) -> None:
    text = Table(["run", "paper"], [[name, "0.1"]]).markdown()
    head, align, row, end = text.split("\n")
    assert (head, align, end) == ("| run | paper |", "| --- | ---: |", "")
    unescaped = row.replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 3


def test_the_terminal_has_room_for_it(tmp_path: Path) -> None:
    evaluation = {"test": {"population": {"accuracy": 0.68, "rows": 5000}}}
    write_run(tmp_path / "a", complete=False, evaluation=evaluation)
    report = {**BITS, "options": ["text", "units"]}
    rows, evaluation = [evaluated(791, bpc=2.3)], {"test": {"population": {"bpc": 1.5, "bpc_sequence": 1.4}}}
    write_run(
        tmp_path / "b", "char-lm", "none", rows, report, evaluation, text="a very long name of a text " * 4, units=9
    )
    lines = summary_text([read_run(tmp_path / name) for name in "ab"], 80).split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[0] == "pmnist: accuracy, higher is better"
    assert lines[1].split() == ["updates", "validation", "paper", "test", "paper"]
    assert lines[3].split() == ["1,000/100,000", "0.7000", "0.6560", "0.6800", "0.9540"]
    assert "    validation: +0.0440 (better)" in lines
    assert "char-lm: bits per character, lower is better" in lines
    assert any("as one sequence" in line for line in lines)
