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
    """By full addresses: the README is shown on the package index too."""
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith("https://")] == []
    ours = r"https://(?:raw\.githubusercontent\.com/bnrnn/bnrnn|github\.com/bnrnn/bnrnn/(?:blob|tree))/main/([^#]+).*"
    own = [found[1] for link in links if (found := re.fullmatch(ours, link))]
    assert own
    assert [path for path in own if not (ROOT / path).exists()] == []
