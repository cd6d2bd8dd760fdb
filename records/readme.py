"""Puts the overview of the records into the README, between its two marks: called by make records.

Of the records those that a number of the papers stands beside; the report has all.
"""

from __future__ import annotations

import re
from pathlib import Path

from bnrnn.report.comparison import judged
from bnrnn.report.groups import group
from bnrnn.report.runs import find_runs
from bnrnn.report.tables import Table, overview

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- overview: written by make records -->\n", "<!-- end of overview -->\n"


def table() -> Table:
    """The rows of the README."""
    return overview(found for found in group(find_runs([ROOT / "records"])) if judged(found) is not None)


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    changed, count = re.subn(
        f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", lambda _: f"\n{table().markdown()}\n", text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"README.md must have {BEGIN.strip()} and {END.strip()} once each")
    readme.write_text(changed)


if __name__ == "__main__":
    main()
