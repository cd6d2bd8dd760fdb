"""Batches by length, and the process that builds them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bnrnn.data.kaldi.alignments import Targets
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.loading import Loader
from bnrnn.data.registry import DataError
from bnrnn.data.speech import Arrays, Part, padding, plan_batches, prepare


def part(lengths: list[int]) -> Part:
    random = np.random.default_rng(0)
    names = [f"u{k}" for k in range(len(lengths))]
    features = {n: random.normal(size=(t, 3)).astype(np.float32) for n, t in zip(names, lengths, strict=True)}
    values = {n: random.integers(0, 5, t).astype(np.int32) for n, t in zip(names, lengths, strict=True)}
    targets = Targets(values, dict.fromkeys(names, "ali"), 5, None, {})
    return prepare(Arrays(features, "memory"), targets, Findings())


def test_batches_are_padded_with_zeros_and_keep_every_frame() -> None:
    made = part([4, 2, 7])
    batch = made.batch([2, 0])
    assert batch["features"].shape == (7, 2, 3)
    assert batch["lengths"].tolist() == [7, 4]
    np.testing.assert_array_equal(batch["features"][:4, 1], made.source.features("u0"))
    assert not batch["features"][4:, 1].any()
    assert not batch["targets"][4:, 1].any()
    np.testing.assert_array_equal(batch["targets"][:7, 0], made.targets[6:13])
    assert made.counts().sum() == made.frames == 13
    assert made.targets.dtype == np.uint16


@pytest.mark.parametrize("count", [1, 23, 24, 25, 900])
@pytest.mark.parametrize("spread", ["narrow", "wide"])
def test_padding_stays_below_its_share_and_every_utterance_is_there_once(count: int, spread: str) -> None:
    random = np.random.default_rng(count)
    lengths = random.integers(30, 40, count) if spread == "narrow" else random.geometric(0.01, count)
    plans = [plan_batches(lengths, 24, 0.05, np.random.default_rng(k)) for k in range(3)]
    plans.append(plan_batches(lengths, 24, 0.05, None))
    for plan in plans:
        assert sorted(np.concatenate(plan)) == list(range(count))
        assert max(map(len, plan)) <= 24
        assert padding(lengths, plan) <= 0.05
    assert len({len(plan) for plan in plans}) == 1


def test_no_batch_is_cut_below_what_its_statistics_need() -> None:
    lengths = 2 ** np.arange(12)
    plan = plan_batches(lengths, 4, 0.05, np.random.default_rng(0), least=2)
    assert min(map(len, plan)) == 2
    assert padding(lengths, plan) > 0.05
    assert padding(lengths, plan_batches(lengths, 4, 0.05, None)) <= 0.05


def test_epochs_mix_utterances_anew_and_the_same_seed_the_same_way() -> None:
    lengths = np.random.default_rng(0).integers(100, 1300, 2000)
    one, same, other = (plan_batches(lengths, 24, 0.05, np.random.default_rng(k)) for k in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert len(one) == len(other) == 84
    met = {tuple(sorted(batch)) for batch in one} & {tuple(sorted(batch)) for batch in other}
    assert not met
    assert not np.array_equal(np.sort([lengths[batch].max() for batch in one]), [lengths[batch].max() for batch in one])


class Ended:
    """Tells its process, and ends it at the second batch."""

    def batch(self, indices: list[int]) -> int:
        if 1 in indices:
            os._exit(1)
        return os.getpid()


def test_a_worker_that_was_ended_is_told() -> None:
    loader = Loader({"train": Ended()})
    with pytest.raises(DataError, match="the process that builds the batches was ended"):
        list(loader.batches("train", [[0], [1], [2]]))
    loader.close()


_KILLED = """
import os, signal
from bnrnn.data.loading import Loader
from tests.data.test_utterances import Ended

if __name__ == "__main__":
    print(next(Loader({"train": Ended()}).batches("train", [[0]] * 9)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_worker_ends_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, cwd=root)
    worker = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {worker} is still there")


class Broken:
    """Breaks at the second batch."""

    def batch(self, indices: list[int]) -> int:
        if 1 in indices:
            raise DataError("utterance u1 in feats.ark: it ends too early")
        return len(indices)


@pytest.mark.parametrize("worker", [False, True])
def test_the_loader_gives_the_batches_of_its_plan_in_order(worker: bool) -> None:
    made = part([4, 2, 7, 3, 9, 5, 5, 6])
    loader = Loader({"train": made, "broken": Broken()}, worker)
    try:
        plan = [[0, 1], [2], [3, 4, 5], [6, 7], [0], [1], [2]]
        for found, indices in zip(loader.batches("train", plan), plan, strict=True):
            wanted = made.batch(indices)
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)

        def endless():
            while True:
                yield [5]

        stream = loader.batches("train", endless())
        assert [next(stream)["lengths"].tolist() for _ in range(9)] == [[5]] * 9
        broken = loader.batches("broken", [[0, 2], [1]])
        assert next(broken) == 2
        with pytest.raises(DataError, match="utterance u1"):
            next(broken)
    finally:
        loader.close()
