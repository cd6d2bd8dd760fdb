"""The page and the run folders that it is made of."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.folders import FACTS, write_run

from bnrnn.report.page import write_report
from bnrnn.report.runs import Point, find_runs, read_run


class Page(HTMLParser):
    """Tags and text of a page; every tag that is opened must be closed in order."""

    void = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.void:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


OTHER = {**FACTS, "figure": None, "comparable": "it is not in the papers"}


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / "runs" / f"{name}-{norm}", name, norm, report=report, complete=False))
        for name, report in (("pmnist", FACTS), ("digits", OTHER))
        for norm in ("none", "recurrent")
    ]
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "gone.svg").write_text("<svg/>")
    path = write_report(runs, tmp_path / "page", "bnrnn report <these>")
    content = path.read_text()
    page = Page(content)
    assert page.stack == []
    assert page.tags.count("svg") == 4
    assert len(page.ids) == len(set(page.ids))
    links = set(re.findall(r'\b(?:src|href)="([^#"][^"]*)', content))  # to the records alone
    assert links == {f"../runs/{name}-{norm}/" for name in ("pmnist", "digits") for norm in ("none", "recurrent")}
    assert "url(http" not in content
    text = " ".join(page.text)
    for words in ("pixels <in order>", "bnrnn report <these>", "bnrnn run this", "partial: 1,000 of 100,000 updates"):
        assert words in text
    names = {file.name for file in (tmp_path / "page").iterdir()}
    pictures = {f"{name}{part}.svg" for name in ("pmnist", "digits") for part in ("", "-training")}
    assert names == {"index.html", "table.md", *pictures}


def test_a_report_is_the_same_each_time(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a"))
    first, second = (write_report([run], tmp_path / name, "x").read_text() for name in ("b", "c"))
    assert first == second


def test_names_are_escaped(tmp_path: Path) -> None:
    report = {**OTHER, "options": ["text"]}
    run = read_run(write_run(tmp_path / "a", "char-lm", report=report, text="<b>a|b</b>.txt"))
    content = write_report([run], tmp_path / "page", "x").read_text()
    assert "<b>a|b" not in content
    assert "&lt;b&gt;a|b&lt;/b&gt;.txt" in content
    table = (tmp_path / "page" / "table.md").read_text().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_an_obstacle_to_comparison_is_told(tmp_path: Path) -> None:
    report = {**FACTS, "comparable": "units is 10, in the paper 100"}
    content = write_report([read_run(write_run(tmp_path / "a", report=report))], tmp_path / "page", "x").read_text()
    assert "No number of the papers stands beside these runs: units is 10, in the paper 100." in content


def test_tasks_of_one_experiment_have_a_section_each(tmp_path: Path) -> None:
    for index in (1, 15):
        write_run(tmp_path / "runs" / str(index), "babi", report={**OTHER, "group": f"task {index}"}, task=index)
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "page", "x")
    assert {"babi-task-1.svg", "babi-task-15.svg"} <= {file.name for file in (tmp_path / "page").iterdir()}


def test_a_run_at_work_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "result.json").unlink()
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "evalu')
    run = read_run(folder)
    assert run.updates == 1000
    assert run.evaluations("accuracy", "batch") == [Point(0, 0.1, 100), Point(500, 0.5, 100), Point(1000, 0.7, 100)]
    assert run.training("loss") == [Point(50, 1.95, 100), Point(550, 1.45, 100)]


def test_a_run_without_metrics_is_reported_as_partial(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "result.json").unlink()
    (folder / "metrics.jsonl").write_text("")
    page = write_report([read_run(folder)], tmp_path / "page", "x")
    assert "partial: 0 of 100,000 updates, not finished" in page.read_text()


def test_a_label_names_what_the_config_says(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", report={**FACTS, "options": ["rho"]}, rho=0.5, backend="cpu"))
    assert run.label == "lstm-recurrent-seed1 (rho 0.5)"
    assert run.model == "lstm-recurrent (rho 0.5)"


def test_runs_are_found_below_the_roots(tmp_path: Path) -> None:
    for name in ("runs/b", "runs/a", "records/pixels/c", "elsewhere/d"):
        write_run(tmp_path / name)
    found = find_runs([tmp_path / "runs", tmp_path / "records"])
    assert sorted(run.path.name for run in found) == ["a", "b", "c"]


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a run folder"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"other": 1}))
    with pytest.raises(ValueError, match="is not the config of a run"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="no run to report on"):
        write_report([], tmp_path / "page", "x")
