"""Utterances with a target for each frame, as parts of a data set and as padded batches."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bnrnn.data.kaldi.alignments import Targets
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.registry import DataError


class Source(Protocol):
    """Where features come from; goes to another process as it is."""

    names: list[str]

    def features(self, name: str) -> np.ndarray:
        """Of an utterance, float32 ``(T, dimensions)``."""
        ...

    def place(self, name: str) -> str:
        """The file that they stand in, for messages."""
        ...


class Arrays:
    """A source in memory.

    Args:
        arrays: features by utterance.
        origin: what to call it.
    """

    def __init__(self, arrays: dict[str, np.ndarray], origin: str) -> None:
        self.arrays, self.origin = arrays, origin
        self.names = list(arrays)

    def features(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def place(self, name: str) -> str:
        return self.origin


@dataclass(frozen=True)
class Part:
    """The utterances of one part, their features still at the source.

    Args:
        source: has the features.
        names: the utterances.
        lengths: int64 ``(count,)``: frames used of each.
        targets: all utterances' one after the other, of the smallest type that holds them.
        classes: number of targets.
        dimensions: of a frame.
        left_out: how many utterances are not in it, by reason.
        digest: SHA-256 over names, features and targets.
    """

    source: Source
    names: tuple[str, ...]
    lengths: np.ndarray
    targets: np.ndarray
    classes: int
    dimensions: int
    left_out: dict[str, int]
    digest: str

    @property
    def frames(self) -> int:
        return int(self.lengths.sum())

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Padded features ``(T, B, dimensions)``, ``lengths (B,)`` and targets ``(T, B)``; zero beyond the lengths."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        lengths = self.lengths[list(indices)]
        steps = int(lengths.max())
        features = np.zeros((steps, len(lengths), self.dimensions), np.float32)
        targets = np.zeros((steps, len(lengths)), np.int64)
        for row, index in enumerate(indices):
            length = int(self.lengths[index])
            features[:length, row] = self.source.features(self.names[index])[:length]
            targets[:length, row] = self.targets[starts[index] : starts[index] + length]
        return {"features": features, "lengths": lengths, "targets": targets}

    def counts(self) -> np.ndarray:
        """How many frames have each target, int64 ``(classes,)``."""
        return np.bincount(self.targets, minlength=self.classes)


def tensors(batch: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """A batch as tensors that share its memory."""
    return {name: torch.from_numpy(value) for name, value in batch.items()}


@dataclass
class Seen:
    """What :func:`examine` saw of the good utterances.

    Args:
        names, lengths: the utterances and the frames used of each.
        targets: those of each.
        dimensions: of a frame; None without any.
        without: utterances without targets.
        alone: targets without features.
        digest: SHA-256 over names, features and targets.
    """

    names: list[str]
    lengths: list[int]
    targets: list[np.ndarray]
    dimensions: int | None
    without: int
    alone: int
    digest: str

    @property
    def used(self) -> set[int]:
        """The targets that occur."""
        return {int(value) for values in self.targets for value in np.unique(values)}


def examine(
    source: Source,
    targets: Targets | None,
    findings: Findings,
    *,
    names: Sequence[str] | None = None,
    classes: int | None = None,
    dimensions: int | None = None,
    tolerance: int = 0,
    max_frames: int | None = None,
    declared: Mapping[str, int] | None = None,
) -> Seen:
    """Joins features and targets, looking at every frame; what is wrong goes to ``findings``.

    Args:
        source: of the features.
        targets: of the frames; None to look at the features alone.
        findings: receives the problems, and the count of those too long.
        names: the utterances to look at; all of the source where None.
        classes: of the network; those of the targets where None.
        dimensions: of the network's input; the most usual of the first ones where None.
        tolerance: by how many frames features and targets may differ; the longer is cut.
        max_frames: longer utterances are left out.
        declared: how many frames each utterance is said to have.
    """
    digest = hashlib.sha256()
    seen = Seen([], [], [], dimensions, 0, 0, "")
    chosen = source.names if names is None else names
    if seen.dimensions is None:
        seen.dimensions = _usual_dimensions(source, chosen)
    for name in chosen:
        wanted = None if targets is None else targets.values.get(name)
        if targets is not None and wanted is None:
            seen.without += 1
            continue
        try:
            x = source.features(name)
        except DataError as error:
            findings.add(name, source.place(name), str(error), "unreadable features")
            continue
        fault = _features_fault(x, seen.dimensions, (declared or {}).get(name))
        if fault is not None:
            findings.add(name, source.place(name), *fault)
            continue
        length = len(x)
        if targets is not None and wanted is not None:
            fault = _targets_fault(wanted, classes or targets.count, length, tolerance)
            if fault is not None:
                findings.add(name, targets.places[name], *fault)
                continue
            length = min(length, len(wanted))
            wanted = wanted[:length]
        if max_frames is not None and length > max_frames:
            findings.left_out[f"over {max_frames:,} frames"] += 1
            continue
        seen.names.append(name)
        seen.lengths.append(length)
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(x[:length]).data)
        if wanted is not None:
            seen.targets.append(wanted)
            digest.update(np.ascontiguousarray(wanted).data)
    if targets is not None:
        seen.alone = len(targets.values.keys() - set(chosen))
    seen.digest = digest.hexdigest()
    return seen


def _usual_dimensions(source: Source, names: Sequence[str]) -> int | None:
    """The dimensions that most of the first utterances have."""
    found: Counter[int] = Counter()
    for name in names[:9]:
        with contextlib.suppress(DataError):
            x = source.features(name)
            found.update([x.shape[1]] if len(x) else [])
    return found.most_common(1)[0][0] if found else None


def prepare(
    source: Source,
    targets: Targets,
    findings: Findings,
    *,
    names: Sequence[str] | None = None,
    classes: int | None = None,
    dimensions: int | None = None,
    tolerance: int = 0,
    max_frames: int | None = None,
    skip_bad: bool = False,
) -> Part:
    """A part of what :func:`examine` finds good.

    Args:
        source, targets, findings, names, classes, dimensions, tolerance, max_frames: see :func:`examine`.
        skip_bad: leave bad utterances out and count them.

    Raises:
        DataError: an utterance is bad and they are not to be left out, or none remains.
    """
    classes = classes or targets.count
    seen = examine(
        source,
        targets,
        findings,
        names=names,
        classes=classes,
        dimensions=dimensions,
        tolerance=tolerance,
        max_frames=max_frames,
    )
    findings.settle(skip_bad)
    if seen.without:
        findings.left_out["without targets"] += seen.without
    if not seen.names or seen.dimensions is None:
        raise DataError(_nothing(source, targets, findings))
    smallest = np.uint16 if classes <= 1 << 16 else np.int32
    return Part(
        source,
        tuple(seen.names),
        np.array(seen.lengths, np.int64),
        np.concatenate(seen.targets).astype(smallest),
        classes,
        seen.dimensions,
        dict(findings.left_out),
        seen.digest,
    )


def _features_fault(x: np.ndarray, dimensions: int | None, declared: int | None) -> tuple[str, str] | None:
    """What is wrong with an utterance's features, and that in two or three words; None for nothing."""
    if len(x) == 0:
        return "it is empty", "empty utterances"
    if dimensions is not None and x.shape[1] != dimensions:
        return f"it has {x.shape[1]} dimensions, the others {dimensions}", "other dimensions"
    finite = np.isfinite(x).all(1)
    if not finite.all():
        return f"frame {int(np.argmin(finite))} holds NaN or an infinite number", "features not finite"
    if declared is not None and declared != len(x):
        return f"it has {len(x):,} frames, and utt2num_frames says {declared:,}", "other lengths than declared"
    return None


def _targets_fault(wanted: np.ndarray, classes: int, length: int, tolerance: int) -> tuple[str, str] | None:
    """The same of its targets."""
    if len(wanted) == 0:
        return "it has no targets", "empty alignments"
    if wanted.max() >= classes:
        return f"target {wanted.max()} lies beyond the softmax of {classes:,}", "targets beyond the softmax"
    if abs(length - len(wanted)) > tolerance:
        what = f"it has {len(wanted):,} targets and {length:,} frames of features; --length-tolerance is {tolerance}"
        return what, "other lengths"
    return None


def _nothing(source: Source, targets: Targets, findings: Findings) -> str:
    if not targets.values or not set(source.names) & set(targets.values):
        of = [f"{name!r}" for name in (next(iter(source.names), None), next(iter(targets.values), None)) if name]
        return (
            f"no utterance has both features and targets: there are {len(source.names):,} with features and"
            f" {len(targets.values):,} with targets, as {' and '.join(of) or 'none'}"
        )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in findings.left_out.items())
    return f"no utterance remains: {reasons or 'this part has none'}"


def plan_batches(
    lengths: np.ndarray,
    batch_size: int,
    max_padding: float,
    random: np.random.Generator | None,
    least: int = 1,
) -> list[np.ndarray]:
    """Which utterances share a batch, so that of all frames no more than a share is padding.

    Utterances are sorted by length, with as much disorder as the share allows, and cut into batches of nearly equal
    numbers. Where even full order pads more, the batches that pad most are cut in two until it does not. The number of
    batches is the same for every ``random``.

    Args:
        lengths: frames of each utterance.
        batch_size: utterances of the largest batch.
        max_padding: the share.
        random: draws who meets whom and the order of the batches; None for the order of the lengths.
        least: utterances that no batch is cut below, which then may pad more.

    Returns:
        Indices, a batch each.
    """
    count = math.ceil(len(lengths) / batch_size)
    ties = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    batches = np.array_split(ties[np.argsort(lengths[ties], kind="stable")], count)
    if padding(lengths, batches) > max_padding:
        while padding(lengths, batches) > max_padding:
            divisible = [k for k in range(len(batches)) if len(batches[k]) >= 2 * least]
            if not divisible:
                break
            worst = max(divisible, key=lambda k: _pads(lengths, batches[k]))
            batches[worst : worst + 1] = np.array_split(batches[worst], 2)
    elif random is not None:
        noise = random.uniform(-1, 1, len(lengths))
        for disorder in 0.5 * 0.8 ** np.arange(16):
            order = np.argsort(lengths * np.exp(disorder * noise), kind="stable")
            mixed = np.array_split(order, count)
            if padding(lengths, mixed) <= max_padding:
                batches = mixed
                break
    if random is not None:
        batches = [batches[k] for k in random.permutation(len(batches))]
    return batches


def padding(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """The share of padding among all frames of the batches."""
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded


def _pads(lengths: np.ndarray, batch: np.ndarray) -> int:
    return int(lengths[batch].max()) * len(batch) - int(lengths[batch].sum())
