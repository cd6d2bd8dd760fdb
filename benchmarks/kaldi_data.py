"""A generated Kaldi data directory with alignments: what training reads, without a corpus.

    python -m benchmarks.kaldi_data DIR

Frames of a target scatter around a point of its own, so that a network can learn them; targets stay for a few frames.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from kaldiio import save_ark

from bnrnn.data.kaldi.archive import write_integers
from bnrnn.data.kaldi.features import cmvn_statistics

WSJ = {"utterances": 500, "longest": 1600, "shortest": 100, "classes": 3546, "dimensions": 41, "speakers": 20}


def generate(
    folder: Path,
    utterances: int,
    longest: int,
    shortest: int,
    classes: int,
    dimensions: int,
    speakers: int = 3,
    seed: int = 0,
    compression: int | None = 2,
) -> tuple[Path, Path]:
    """Writes ``data`` and ``ali.gz`` below a folder and returns their paths."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, dimensions)).astype(np.float32)
    data, alignments = folder / "data", folder / "ali.gz"
    data.mkdir(parents=True)
    features: dict[str, np.ndarray] = {}
    targets: dict[str, np.ndarray] = {}
    for index in range(utterances):
        name = f"speaker{index % speakers:02d}-{index:05d}"
        length = int(random.integers(shortest, longest + 1))
        stays = np.repeat(random.integers(0, classes, length // 5 + 1), 5)[:length]
        offset = random.normal(size=dimensions)
        features[name] = (8 + 3 * (centres[stays] + random.normal(size=(length, dimensions)) + offset)).astype(
            np.float32
        )
        targets[name] = stays.astype(np.int32)
    names = sorted(features)
    features = {name: features[name] for name in names}
    save_ark(str(data / "feats.ark"), features, scp=str(data / "feats.scp"), compression_method=compression)
    speaker = {name: name.partition("-")[0] for name in names}
    by_speaker = {
        one: cmvn_statistics(features[name] for name in names if speaker[name] == one)
        for one in sorted(set(speaker.values()))
    }
    save_ark(str(data / "cmvn.ark"), by_speaker, scp=str(data / "cmvn.scp"))
    lists = {"utt2spk": speaker, "utt2num_frames": {name: len(x) for name, x in features.items()}}
    for file, rows in lists.items():
        (data / file).write_text("".join(f"{name} {value}\n" for name, value in rows.items()))
    for file in ("feats.scp", "cmvn.scp"):
        (data / file).write_text((data / file).read_text().replace(f"{data}/", ""))
    write_integers(alignments, targets)
    return data, alignments


if __name__ == "__main__":
    print(*generate(Path(sys.argv[1]), **WSJ))
