"""The README's numbers are those of the committed records."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from bnrnn.report.groups import group
from bnrnn.report.runs import find_runs
from bnrnn.report.tables import overview

ROOT = Path(__file__).parents[2]


def test_the_readmes_table_is_that_of_the_records() -> None:
    every = overview(group(find_runs([ROOT / "records"])))
    assert (ROOT / "records/report/table.md").read_text() == every.markdown()
    table = runpy.run_path(str(ROOT / "records/readme.py"))["table"]()
    assert 0 < len(table.rows) < len(every.rows)
    assert all(row in every.rows for row in table.rows)
    assert table.markdown() in (ROOT / "README.md").read_text()


def test_what_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
