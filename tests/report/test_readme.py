"""The README's picture and numbers are those of the committed records."""

from __future__ import annotations

import re
from pathlib import Path

from bnrnn.report.page import markdown_table, summary_table
from bnrnn.report.runs import find_runs

ROOT = Path(__file__).parents[2]


def test_the_readmes_table_is_that_of_the_records() -> None:
    head, rows = summary_table(find_runs([ROOT / "records"]))
    assert rows
    table = markdown_table(head, rows)
    assert (ROOT / "records/report/table.md").read_text() == table
    assert table in (ROOT / "README.md").read_text()


def test_what_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
