"""The README's numbers are those of the committed records."""

from __future__ import annotations

import re
from pathlib import Path

from bnrnn.report.groups import group
from bnrnn.report.runs import find_runs
from bnrnn.report.tables import overview

ROOT = Path(__file__).parents[2]


def test_the_readmes_table_is_that_of_the_records() -> None:
    table = overview(group(find_runs([ROOT / "records"])))
    assert table.rows
    text = table.markdown()
    assert (ROOT / "records/report/table.md").read_text() == text
    assert text in (ROOT / "README.md").read_text()


def test_what_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
