"""Puts the overview of records/report into the README, between its two marks: called by make records."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- overview: written by make records -->\n", "<!-- end of overview -->\n"


def main() -> None:
    readme = ROOT / "README.md"
    text, table = readme.read_text(), (ROOT / "records/report/table.md").read_text()
    changed, count = re.subn(
        f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", lambda _: f"\n{table}\n", text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"README.md must have {BEGIN.strip()} and {END.strip()} once each")
    readme.write_text(changed)


if __name__ == "__main__":
    main()
