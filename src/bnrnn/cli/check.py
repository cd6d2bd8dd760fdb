"""``bnrnn data check``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse

SUMMARY = "look through a Kaldi data directory before any training"


@dataclass(frozen=True)
class Check:
    """Look through a Kaldi data directory: utterances, frames, dimensions, targets, and what disagrees. Every frame is
    read. The code is 1 where something is wrong."""

    directory: tyro.conf.Positional[Path]
    """Kaldi data directory: feats.scp, or wav.scp with or without segments."""
    alignments: Path | None = None
    """Its targets: a folder of ali.*.gz with final.mdl, an archive of integers, or a text with a symbol a frame."""
    targets: Literal["pdf", "phone"] = "pdf"
    """What transition ids are turned into."""
    model: Path | None = None
    """Transition model of the alignments; by default the final.mdl beside them."""
    target_count: int | None = None
    """Number of targets, for archives of integers."""
    cmvn: Literal["none", "mean", "mean-variance"] | None = None
    """How cmvn.scp is used; by default for mean and variance where it is there."""
    deltas: int = 2
    """Order of the differences added to the features."""
    length_tolerance: int = 0
    """Frames by which features and targets of an utterance may differ."""
    max_frames: int = 1300
    """Utterances that are longer are counted."""
    rewrite: str = ""
    """OLD=NEW: the start OLD of every path in the lists becomes NEW."""
    allow_pipes: bool = False
    """Run the commands that stand in place of files in the lists."""
    show: int = 20
    """Problems to show."""


def run(arguments: list[str]) -> int:
    chosen = parse(Check, arguments, "bnrnn data check")
    from bnrnn.data.kaldi.alignments import read_targets
    from bnrnn.data.kaldi.directory import KaldiDirectory, Reading
    from bnrnn.data.kaldi.findings import Findings
    from bnrnn.data.speech import examine

    findings = Findings()
    cmvn = chosen.cmvn or ("mean-variance" if (chosen.directory / "cmvn.scp").is_file() else "none")
    reading = Reading(cmvn, chosen.deltas, chosen.rewrite, chosen.allow_pipes)
    source = KaldiDirectory(chosen.directory, reading, findings)
    targets = None
    if chosen.alignments is not None:
        targets = read_targets(chosen.alignments, findings, chosen.targets, chosen.model, chosen.target_count)
    declared = source.declared()
    seen = examine(source, targets, findings, tolerance=chosen.length_tolerance, declared=declared)
    frames = sorted(seen.lengths)
    print(f"{chosen.directory}: {source.list.name}, cmvn {cmvn}, deltas of order {chosen.deltas}")
    print(f"utterances  {len(source.names):,} listed, {len(frames):,} good")
    if frames:
        over = sum(length > chosen.max_frames for length in frames)
        print(
            f"frames      {sum(frames):,} ({sum(frames) / 360000:.2f} hours at 10 ms);"
            f" {frames[0]:,} to {frames[-1]:,} an utterance, median {frames[len(frames) // 2]:,};"
            f" {over:,} over {chosen.max_frames:,}"
        )
    print(f"dimensions  {seen.dimensions or 'none'}")
    if targets is not None and chosen.alignments is not None:
        used = len(seen.used)
        kind = "symbols" if targets.symbols else chosen.targets if chosen.alignments.is_dir() else "integers"
        print(f"targets     {targets.count:,} ({kind}), {used:,} of them occur; {len(targets.values):,} utterances")
        print(f"without     {seen.without:,} utterances with features have no targets, {seen.alone:,} the reverse")
    elif source.speakers:
        print(f"speakers    {len(set(source.speakers.values())):,}")
    problems = findings.problems
    for problem in problems[: chosen.show]:
        print(f"wrong       {problem}")
    if len(problems) > chosen.show:
        print(f"            and {len(problems) - chosen.show:,} more; --show N shows N")
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in findings.kinds().items())
    print(f"disagree    {by_kind or 'nothing'}")
    return 1 if problems else 0
