"""``bnrnn posteriors``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse

SUMMARY = "write a speech network's posteriors as a Kaldi archive"


@dataclass(frozen=True)
class Posteriors:
    """Write the log posteriors of every frame of a Kaldi data directory as an archive that a decoder reads, with the
    population statistics. One utterance is in memory at a time, in the directory's order and under its name."""

    run: tyro.conf.Positional[Path]
    """Run folder of a speech experiment."""
    data: Path
    """Kaldi data directory."""
    out: str
    """Where to, as Kaldi says it: ark,scp:FILE.ark,FILE.scp or ark:FILE or ark,t:FILE; ark:- for the output."""
    divide_by_priors: bool = False
    """Take off each target's log prior in the training part: the scaled log likelihoods that a decoder wants."""
    model: Literal["final", "best", "last"] = "final"
    """The selected model with the population statistics of the end; the best so far or the last one with the running
    averages of training."""
    cmvn: Literal["none", "mean", "mean-variance"] | None = None
    """How cmvn.scp is used; by default as in training."""
    rewrite: str | None = None
    """OLD=NEW: the start OLD of every path in the lists becomes NEW."""
    allow_pipes: bool = False
    """Run the commands that stand in place of files in the lists."""
    skip_bad: bool = False
    """Leave bad utterances out and count them, in place of an error."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""


def run(arguments: list[str]) -> int:
    chosen = parse(Posteriors, arguments, "bnrnn posteriors")
    from bnrnn.data.kaldi.archive import Writer
    from bnrnn.experiments.opened import open_run
    from bnrnn.experiments.speech.posteriors import Scorer, reading_of, score

    scorer = Scorer(open_run(chosen.run, chosen.model, chosen.device))
    reading = reading_of(
        scorer.run.config, cmvn=chosen.cmvn, rewrite=chosen.rewrite or "", allow_pipes=chosen.allow_pipes
    )
    with Writer(chosen.out) as writer:
        written, findings = score(
            scorer,
            chosen.data,
            reading,
            writer,
            divide_by_priors=chosen.divide_by_priors,
            skip_bad=chosen.skip_bad,
        )
    left_out = {**findings.left_out, **findings.kinds()}
    more = "; left out: " + ", ".join(f"{count:,} {kind}" for kind, count in left_out.items()) if left_out else ""
    print(f"{written:,} utterances, {scorer.classes:,} targets each frame{more}", file=sys.stderr)
    return 0
