"""The Wall Street Journal as Laurent et al. 2015 have it, or any other Kaldi data directory with alignments."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bnrnn.data.kaldi.alignments import read_targets
from bnrnn.data.kaldi.directory import KaldiDirectory
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.speech import prepare
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.speech.config import KaldiConfig
from bnrnn.experiments.speech.task import SpeechTask
from bnrnn.experiments.speech.trained import trained


def build(config: KaldiConfig) -> SpeechTask:
    """Reads the lists and looks at every frame.

    Raises:
        DataError: a file is missing, or an utterance bad and those are not to be left out.
        ValueError: the data are not named.
    """
    for name in ("data", "alignments"):
        if not getattr(config, name):
            raise ValueError(f"{name} must be given: --data DIR names a Kaldi data directory, --alignments its targets")
    if config.valid_alignments and not config.valid_data:
        raise ValueError("valid_alignments needs valid_data")
    found = Findings()
    source = KaldiDirectory(Path(config.data), config.reading, found)
    targets = read_targets(Path(config.alignments), found, config.targets, config.transition_model, config.target_count)
    held = [] if config.valid_data else [name for name in source.names if held_out(name, config.hold_out)]
    train = prepare(
        source,
        targets,
        found,
        names=[name for name in source.names if name not in set(held)],
        tolerance=config.length_tolerance,
        max_frames=config.max_frames,
        skip_bad=config.skip_bad,
    )
    sources = {f"train {name}": digest for name, digest in targets.sources.items()}
    others = Findings()
    if config.valid_data:
        source, held = KaldiDirectory(Path(config.valid_data), config.reading, others), None
    if config.valid_alignments:
        path = Path(config.valid_alignments)
        model, symbols = config.transition_model, targets.symbols
        targets = read_targets(path, others, config.targets, model, config.target_count, symbols)
        sources |= {f"valid {name}": digest for name, digest in targets.sources.items()}
    valid = prepare(
        source,
        targets,
        others,
        names=held,
        classes=train.classes,
        dimensions=train.dimensions,
        tolerance=config.length_tolerance,
        skip_bad=config.skip_bad,
    )
    return SpeechTask(config, train, valid, sources)


def held_out(name: str, every: int) -> bool:
    """Whether an utterance is for development: one in ``every``, by the SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % every == 0


WSJ = Experiment(
    name="wsj",
    summary="Frames of a Kaldi data directory to clustered states, 5 bidirectional layers",
    paper="Laurent et al. 2015, 5.1",
    target="Table 1; Figure 2",
    data="your own: a Kaldi data directory with alignments (WSJ si284 and dev93 for the paper's numbers)",
    cost="30,000 updates of 24 utterances: days on 2 cores, hours on a GPU",
    config=KaldiConfig(),
    build=build,
    trained=trained,
    judgement=Judgement(
        "fce",
        "lower",
        "development frame cross-entropy, nats",
        figure="wsj",
        defaults=("cell", "units", "layers", "batch_size", "learning_rate", "momentum", "deltas", "targets"),
        obstacle=lambda config: None if config.valid_data else "development is a share of the training part, not dev93",
        training="fce",
        also=("fer",),
        statistics="population",
    ),
    named=(
        "cell",
        "norm",
        "seed",
        "data",
        "alignments",
        "valid_data",
        "valid_alignments",
        "model",
        "rewrite",
        "worker",
    ),
)
