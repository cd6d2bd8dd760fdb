"""``bnrnn figure h2h``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "the search of hidden-to-hidden normalization (Laurent et al. 2015, section 4 and Figure 1)"


@dataclass(frozen=True)
class HiddenToHidden:
    """Draw the pairs of a search: last training loss of one net against the other, and an example's curves."""

    search: tyro.conf.Positional[Path] = Path("runs/search-h2h")
    """Folder of the search's run folders, or of their records."""
    out: Path = Path("h2h.png")
    """PNG or SVG file to write; its numbers go beside it as CSV."""


def run(arguments: list[str]) -> int:
    chosen = parse(HiddenToHidden, arguments, "bnrnn figure h2h")
    from bnrnn.figures.files import write_figure
    from bnrnn.figures.h2h import h2h_figure
    from bnrnn.report.runs import find_runs
    from bnrnn.report.search import DRAWN, last_loss, paired, search_pairs

    runs = find_runs([chosen.search])
    pairs = paired(runs)
    if not pairs:
        raise UsageError(f"{chosen.search} holds no finished pair of runs of h2h; see bnrnn search h2h --help")
    rows = [
        [*(plain.config["config"][name] for name in DRAWN), plain.updates, last_loss(plain), last_loss(other)]
        for plain, other in pairs
    ]
    head = [*DRAWN, "updates", "baseline loss", "normalized loss"]
    write_figure(chosen.out, h2h_figure(search_pairs(runs)), head, rows)
    print(chosen.out)
    return 0
