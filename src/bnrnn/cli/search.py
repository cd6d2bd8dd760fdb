"""``bnrnn search``: the random search of Laurent et al. 2015, section 4."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse, side_by_side
from bnrnn.cli.sweep import Workers, carry_out

SUMMARY = "the random search that found no use in hidden-to-hidden normalization (Laurent et al. 2015, section 4)"

SPACE = ("learning_rate=log:1e-4:1", "momentum=.5,.8,.9,.95,.995", "batch_size=32,64,128")


@dataclasses.dataclass(frozen=True)
class Search:
    """Train pairs that differ in the normalization alone, at random learning rates, momenta and batch sizes."""

    what: tyro.conf.Positional[Literal["h2h"]]
    """The search: batch normalization of W_h h + W_x x against the baseline."""
    draws: int = 52
    """Pairs, each of its own draw; the paper's number."""
    updates: int | None = None
    """Length of each run; by default the paper's 20 epochs."""
    draw_seed: int = 1
    """Seed of the draws."""


def run(arguments: list[str]) -> int:
    from bnrnn.experiments.language.h2h import H2H
    from bnrnn.experiments.sweeps import combine, draws, grid
    from bnrnn.training.session import Session

    parts = {"search": Search("h2h"), "workers": Workers(), "session": Session(), "config": H2H.config}
    words = arguments[1:] if arguments[:1] == ["h2h"] else arguments
    chosen = parse(side_by_side(**parts), ["h2h", *words], "bnrnn search h2h", Search.__doc__)
    search: Search = chosen.search
    workers = dataclasses.replace(chosen.workers, out=chosen.workers.out or Path("runs/search-h2h"))
    session = dataclasses.replace(chosen.session, max_updates=search.updates or chosen.session.max_updates)
    options = combine(draws(search.draws, SPACE, search.draw_seed), grid(["norm=none,summed"]))
    return carry_out("h2h", chosen.config, session, workers, options)
