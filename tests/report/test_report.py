"""The report, from run folders written here by hand."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bnrnn.figures.paper import PaperCurve, paper_experiment, paper_source
from bnrnn.report.page import compare, comparison_table, markdown_table, summary_table, write_report
from bnrnn.report.runs import Run, find_runs, read_run


def write_run(
    folder: Path,
    experiment: str = "pmnist",
    norm: str = "recurrent",
    updates: tuple[int, ...] = (0, 500, 1000),
    values: tuple[float, ...] = (0.1, 0.5, 0.7),
    result: bool = True,
    **options: Any,
) -> Path:
    folder.mkdir(parents=True)
    config = {"cell": "lstm", "norm": norm, "seed": 1, **options}
    described = {
        "experiment": experiment,
        "label": f"lstm-{norm}-seed1",
        "summary": "pixels <in order>",
        "changed": {"norm": norm, **options},
        "config": config,
    }
    (folder / "config.json").write_text(json.dumps(described))
    start = {
        "started": "2026-01-01T00:00:00+00:00",
        "processor": "x",
        "threads": 1,
        "device": "cpu",
        "versions": {"torch": "2.13.0"},
        "commit": "abc",
        "command": "bnrnn run this",
        "planned_updates": 100_000,
    }
    (folder / "environment.json").write_text(json.dumps([start]))
    rows = [{"kind": "train", "update": update + 50, "loss": 1.0} for update in updates[:-1]]
    for update, value in zip(updates, values, strict=True):
        row = {"kind": "evaluation", "update": update, "split": "valid", "statistics": "batch"}
        rows.append({**row, "accuracy": value, "error": 1 - value, "loss": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if result:
        metrics = {"accuracy": values[-1], "error": 1 - values[-1], "loss": 1.0}
        content = {
            "status": "partial",
            "updates": updates[-1],
            "planned_updates": 100_000,
            "seconds": 500.0,
            "selected": {"update": updates[-1], "by": "error", "value": 1 - values[-1]},
            "evaluation": {split: {"batch": metrics, "population": metrics} for split in ("valid", "test")},
        }
        (folder / "result.json").write_text(json.dumps(content))
    return folder


def test_the_papers_curves_are_the_specifications_checkpoints() -> None:
    """Validation accuracies as the specification prints them, to three digits."""
    printed = {
        ("smnist", "none"): {500: 0.137, 5000: 0.293, 20_000: 0.429, 50_000: 0.978, 100_000: 0.988},
        ("smnist", "recurrent"): {500: 0.639, 5000: 0.914, 20_000: 0.979, 50_000: 0.984},
        ("pmnist", "none"): {500: 0.326, 5000: 0.654, 20_000: 0.868, 50_000: 0.900},
        ("pmnist-released", "recurrent"): {500: 0.545, 5000: 0.847, 20_000: 0.921, 50_000: 0.937},
        ("ptb-char", "none"): {791: 2.223, 2373: 1.679, 7910: 1.489},
        ("ptb-char", "recurrent"): {791: 1.674, 2373: 1.527, 7910: 1.4702},
    }
    for (name, norm), points in printed.items():
        paper = paper_experiment(name)
        assert paper is not None
        for update, value in points.items():
            assert paper.curves[norm].at(update) == pytest.approx(value, abs=0.0015), (name, norm, update)
    assert "1603.09025" in paper_source()
    assert paper_experiment("digits") is None


def test_a_paper_curve_is_interpolated_linearly_and_ends() -> None:
    curve = PaperCurve("c", (0, 100, 300), (0.0, 1.0, 2.0))
    assert [curve.at(update) for update in (0, 50, 100, 200, 300)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert curve.at(-1) is None
    assert curve.at(301) is None


def test_a_comparison_is_at_the_same_number_of_updates(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", updates=(0, 500, 1250), values=(0.1, 0.5, 0.75)))
    latest = compare(run)[0]
    paper = paper_experiment("pmnist")
    assert paper is not None
    curve = paper.curves["recurrent"]
    left, right = (curve.values[curve.updates.index(update)] for update in (1000, 1500))
    assert latest.paper == pytest.approx((left + right) / 2, abs=1e-9)
    assert latest.ours == 0.75
    assert latest.difference == pytest.approx(0.75 - (left + right) / 2)
    assert latest.same_length
    test = next(row for row in compare(run) if (row.split, row.statistics) == ("test", "population"))
    assert test.paper == 0.954
    assert not test.same_length


@pytest.mark.parametrize("options", [{"cell": "gru"}, {"slice": 1000}, {"norm": "layer"}, {"experiment": "digits"}])
def test_other_models_and_data_are_not_compared_with_the_paper(tmp_path: Path, options: Any) -> None:
    rows = compare(read_run(write_run(tmp_path / "a", **options)))
    assert rows
    assert all(row.paper is None and row.difference is None for row in rows)


def test_tables_name_partial_runs(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, result=result)) for name, result in (("a", True), ("b", False))]
    head, rows = summary_table(runs)
    assert [len(row) for row in rows] == [len(head)] * 2
    assert rows[0][head.index("updates")] == "1,000 of 100,000 (partial)"
    assert rows[0][head.index("validation")] == "0.7000"
    assert rows[0][head.index("paper's test")] == "0.9540"
    assert rows[1][head.index("test (population)")] == ""
    assert runs[1].status == "partial: 1,000 of 100,000 updates, not finished"
    head, rows = comparison_table(runs)
    sources = [row[head.index("source")] for row in rows if "test" in row[head.index("number")]]
    assert "Cooijmans et al. 2017, Table 1 (full length; ours is partial)" in sources


def test_markdown(tmp_path: Path) -> None:
    text = markdown_table(["run", "paper"], [["a", "0.1"]])
    assert text == "| run | paper |\n| --- | ---: |\n| a | 0.1 |\n"


def test_a_label_names_what_is_not_as_by_default(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "a", rho=0.5)).label == "lstm-recurrent-seed1 (rho 0.5)"


class Page(HTMLParser):
    """Tags and text of a page; every tag that is opened must be closed in order."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.images: list[str] = []
        self.text: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in self.void:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / "runs" / f"{experiment}-{norm}", experiment, norm))
        for experiment in ("pmnist", "digits")
        for norm in ("none", "recurrent")
    ]
    path = write_report(runs, tmp_path / "page", "bnrnn report these")
    content = path.read_text()
    page = Page(content)
    assert page.stack == []
    assert len(page.images) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert not re.search(r'(src|href)="(?!data:)', content)
    text = " ".join(page.text)
    for words in ("pixels <in order>", "bnrnn report these", "bnrnn run this", "partial: 1,000 of 100,000 updates"):
        assert words in text
    names = {file.name for file in (tmp_path / "page").iterdir()}
    assert names == {
        "index.html",
        "table.md",
        "pmnist.png",
        "pmnist-training.png",
        "digits.png",
        "digits-training.png",
    }


def test_a_run_at_work_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", result=False)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "evalu')
    run = read_run(folder)
    assert run.updates == 1000
    assert run.curve("accuracy") == ([0, 500, 1000], [0.1, 0.5, 0.7])
    assert run.training_curve("loss") == ([50, 550], [1.0, 1.0])


def test_a_run_without_metrics_is_reported_as_partial(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", result=False)
    (folder / "metrics.jsonl").write_text("")
    page = write_report([read_run(folder)], tmp_path / "page", "x")
    assert "partial: 0 of 100,000 updates, not finished" in page.read_text()


def test_runs_are_found_below_the_roots(tmp_path: Path) -> None:
    for name in ("runs/b", "runs/a", "records/pixels/c", "elsewhere/d"):
        write_run(tmp_path / name)
    found = find_runs([tmp_path / "runs", tmp_path / "records"])
    assert sorted(run.path.name for run in found) == ["a", "b", "c"]
    assert all(isinstance(run, Run) for run in found)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a run folder"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text('{"other": 1}')
    with pytest.raises(ValueError, match="is not the config of a run"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="no run to report on"):
        write_report([], tmp_path / "page", "x")
