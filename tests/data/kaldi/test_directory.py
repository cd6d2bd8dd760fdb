"""Data directories: what is read, from where, and what is told of those that are broken."""

from __future__ import annotations

import io
import os
import pickle
import wave
from collections.abc import Callable
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from benchmarks.kaldi_data import generate

from bnrnn.data import fsdd
from bnrnn.data.kaldi.alignments import read_targets
from bnrnn.data.kaldi.archive import items, write_integers
from bnrnn.data.kaldi.directory import KaldiDirectory, Reading
from bnrnn.data.kaldi.fbank import fbank
from bnrnn.data.kaldi.features import apply_cmvn, deltas
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.registry import DataError
from bnrnn.data.speech import prepare

KALDI = Path(os.environ.get("BNRNN_DATA") or "no-data") / "kaldi"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """Nine utterances of three speakers, 5 dimensions, 7 targets, not compressed."""
    return generate(tmp_path, 9, 30, 10, 7, 5, compression=None)


def opened(data: Path, findings: Findings | None = None, **reading: object) -> KaldiDirectory:
    return KaldiDirectory(data, Reading(**reading), Findings() if findings is None else findings)  # pyright: ignore


def edit(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    file.write_text("".join(f"{line}\n" for line in change(file.read_text().splitlines())))


@pytest.mark.parametrize("cmvn", ["none", "mean", "mean-variance"])
def test_features_are_normalized_by_speaker_and_then_differenced(made: tuple[Path, Path], cmvn: str) -> None:
    data, _ = made
    raw, statistics = dict(items(data / "feats.ark")), dict(items(data / "cmvn.ark"))
    source = opened(data, cmvn=cmvn)
    assert source.names == list(raw)
    for name, x in raw.items():
        if cmvn != "none":
            x = apply_cmvn(x, statistics[name.partition("-")[0]], cmvn == "mean-variance")
        np.testing.assert_array_equal(source.features(name), deltas(x))


def test_normalization_by_utterance_where_the_list_has_utterances(made: tuple[Path, Path]) -> None:
    data, _ = made
    raw = dict(items(data / "feats.ark"))
    single = {
        name: np.vstack([[*(k + x[0]), 2.0], [*(2 * (k + x[0]) ** 2), 0]]) for k, (name, x) in enumerate(raw.items())
    }
    kaldiio.save_ark(str(data / "cmvn.ark"), single, scp=str(data / "cmvn.scp"))
    source = opened(data, cmvn="mean", deltas=0)
    for k, (name, x) in enumerate(raw.items()):
        np.testing.assert_allclose(source.features(name), x - (k + x[0]) / 2, atol=1e-5)


def test_a_directory_goes_to_another_process_and_is_lazy(made: tuple[Path, Path]) -> None:
    source = opened(made[0])
    name = source.names[4]
    wanted = source.features(name)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).features(name), wanted)
    (made[0] / "feats.ark").unlink()
    with pytest.raises(DataError, match=r"feats\.ark is missing"):
        source.features(name)


def test_paths_are_found_from_any_folder_above_and_rewritten(made: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = made
    wanted = opened(data).features("speaker00-00000")
    (tmp_path / "exp/make_fbank").mkdir(parents=True)
    (data / "feats.ark").rename(tmp_path / "exp/make_fbank/feats.ark")
    edit(data / "feats.scp", lambda lines: [line.replace("feats.ark", "exp/make_fbank/feats.ark") for line in lines])
    np.testing.assert_array_equal(opened(data).features("speaker00-00000"), wanted)
    edit(data / "feats.scp", lambda lines: [line.replace("exp/", "/cluster/exp/") for line in lines])
    with pytest.raises(DataError, match="is missing"):
        opened(data).features("speaker00-00000")
    moved = opened(data, rewrite=f"/cluster={tmp_path}")
    np.testing.assert_array_equal(moved.features("speaker00-00000"), wanted)


def test_ranges_of_an_archive_are_utterances(made: tuple[Path, Path]) -> None:
    data, _ = made
    edit(data / "feats.scp", lambda lines: [f"{line}[2:6]" for line in lines])
    raw = dict(items(data / "feats.ark"))
    source = opened(data, cmvn="none", deltas=0)
    np.testing.assert_array_equal(source.features("speaker01-00004"), raw["speaker01-00004"][2:7])


def test_commands_run_only_where_they_are_allowed(made: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = made
    mark = tmp_path / "ran"
    command = f"touch {mark}; echo ' [ 1 2 3 4 5' ; echo '6 7 8 9 10 ]' |"
    edit(data / "feats.scp", lambda lines: [f"{lines[0].split()[0]} {command}", *lines[1:]])
    with pytest.raises(DataError, match=r"speaker00-00000: .* is a command .*--allow-pipes"):
        opened(data)
    assert not mark.exists()
    source = opened(data, cmvn="none", deltas=0, allow_pipes=True)
    np.testing.assert_array_equal(source.features("speaker00-00000"), np.arange(1, 11).reshape(2, 5))
    assert mark.exists()


def test_directories_that_are_none(tmp_path: Path, made: tuple[Path, Path]) -> None:
    data, _ = made
    with pytest.raises(DataError, match=r"neither feats\.scp nor wav\.scp"):
        opened(tmp_path / "elsewhere")
    (data / "cmvn.scp").rename(data / "other.scp")
    with pytest.raises(DataError, match="--cmvn none"):
        opened(data)
    (data / "other.scp").rename(data / "cmvn.scp")
    edit(data / "feats.scp", lambda lines: [*lines, "lonely"])
    with pytest.raises(DataError, match="line 10: 'lonely' is not a name"):
        opened(data)


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()


def test_sound_gives_filterbanks_whole_and_in_segments(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-999, 999, 8000)
    (tmp_path / "a.wav").write_bytes(wav(samples))
    (tmp_path / "wav.scp").write_text("rec a.wav\n")
    wanted = fbank(samples.astype(np.float32), 8000)
    source = opened(tmp_path, cmvn="none")
    assert source.names == ["rec"]
    np.testing.assert_array_equal(source.features("rec"), deltas(wanted))
    assert source.features("rec").shape[1] == 123
    (tmp_path / "segments").write_text("u1 rec 0.0 0.5\nu2 rec 0.5 -1\nu3 none 0 1\n")
    findings = Findings()
    source = opened(tmp_path, findings, cmvn="none", deltas=0)
    assert source.names == ["u1", "u2"]
    np.testing.assert_array_equal(source.features("u1"), fbank(samples[:4000].astype(np.float32), 8000))
    np.testing.assert_array_equal(source.features("u2"), fbank(samples[4000:].astype(np.float32), 8000))
    assert "no recording none" in str(findings.problems[0])


# what is done to the directory, what is told of it, and how many utterances remain of nine
def _truncate(data: Path, ali: Path) -> None:
    content = (data / "feats.ark").read_bytes()
    (data / "feats.ark").write_bytes(content[:-20])


def _remove(data: Path, ali: Path) -> None:
    (data / "feats.ark").unlink()


def _features(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], None]:
    def act(data: Path, ali: Path) -> None:
        arrays = dict(items(data / "feats.ark"))
        arrays["speaker01-00001"] = change(arrays["speaker01-00001"].copy())
        kaldiio.save_ark(str(data / "feats.ark"), arrays, scp=str(data / "feats.scp"))

    return act


def _at(frame: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x[frame, 1] = value
        return x

    return change


def _targets(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], None]:
    def act(data: Path, ali: Path) -> None:
        arrays = dict(items(ali, "integers"))
        arrays["speaker01-00001"] = change(arrays["speaker01-00001"])
        write_integers(ali, arrays)

    return act


def _twice(data: Path, ali: Path) -> None:
    edit(data / "feats.scp", lambda lines: [*lines, lines[3]])


BAD = {
    "missing archive": (_remove, r"utterance speaker00-00000 in .*feats\.ark.*is missing; there are 8 more", 0),
    "truncated archive": (_truncate, r"utterance speaker02-00008 in .*feats\.ark:\d+: .*too early; it is the only", 8),
    "nan": (_features(_at(4, np.nan)), r"speaker01-00001 in .*feats\.ark:\d+: frame \d+ holds NaN", 8),
    "infinite": (_features(_at(4, np.inf)), r"speaker01-00001 in .*: frame \d+ holds NaN or an infinite number", 8),
    "empty": (_features(lambda x: x[:0]), r"speaker01-00001 in .*: it is empty", 8),
    "no targets": (_targets(lambda y: y[:0]), r"speaker01-00001 in .*ali\.gz: it has no targets", 8),
    "beyond": (_targets(lambda y: y + 10), r"speaker01-00001 in .*ali\.gz: target \d+ lies beyond the softmax of 7", 8),
    "below": (_targets(lambda y: y - 9), r"speaker01-00001 in .*ali\.gz: target -\d is below 0", 8),
    "dimensions": (_features(lambda x: x[:, :3]), r"speaker01-00001 in .*: .*need \(2, 4\)|has 9 dimensions", 8),
    "lengths": (_targets(lambda y: y[:-2]), r"speaker01-00001 in .*ali\.gz: it has \d+ targets and \d+ frames", 8),
    "duplicate": (_twice, r"utterance speaker01-00001 in .*feats\.scp: it is there twice; it is the only one", 9),
}


def joined(data: Path, ali: Path, skip_bad: bool, **options: object) -> object:
    findings = Findings()
    source = opened(data, findings)
    targets = read_targets(ali, findings, count=7)
    return prepare(source, targets, findings, skip_bad=skip_bad, **options)  # pyright: ignore


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_left_out_where_that_is_asked_for(made: tuple[Path, Path], case: str) -> None:
    act, message, remain = BAD[case]
    act(*made)
    with pytest.raises(DataError, match=message):
        joined(*made, skip_bad=False)
    if remain == 0:
        with pytest.raises(DataError, match="no utterance remains: 9 unreadable features"):
            joined(*made, skip_bad=True)
        return
    part = joined(*made, skip_bad=True)
    assert len(part.names) == remain  # pyright: ignore
    assert sum(part.left_out.values()) == 1 + (case == "below")  # pyright: ignore


def test_tolerated_differences_of_length_are_cut(made: tuple[Path, Path]) -> None:
    _targets(lambda y: y[:-2])(*made)
    part = joined(*made, skip_bad=False, tolerance=2)
    assert part.frames == sum(map(len, dict(items(made[1], "integers")).values()))  # pyright: ignore


def test_long_utterances_are_left_out_and_counted(made: tuple[Path, Path]) -> None:
    lengths = [len(x) for x in dict(items(made[0] / "feats.ark")).values()]
    part = joined(*made, skip_bad=False, max_frames=20)
    assert sorted(part.lengths) == sorted(length for length in lengths if length <= 20)  # pyright: ignore
    assert part.left_out == {"over 20 frames": sum(length > 20 for length in lengths)}  # pyright: ignore


def test_no_overlap_and_the_wrong_model_are_told(made: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = dict(items(made[1], "integers"))
    write_integers(made[1], {f"other{name}": y for name, y in arrays.items()})
    with pytest.raises(DataError, match=r"no utterance has both .*'speaker00-00000' and 'otherspeaker00-00000'"):
        joined(*made, skip_bad=True)


@pytest.mark.real_data
def test_the_digits_directory_is_read_from_its_recipe() -> None:
    source = opened(KALDI / "digits/data/train")
    assert len(source.names) == 1000
    lengths = {name: len(source.features(name)) for name in source.names[::50]}
    declared = source.declared()
    assert lengths == {name: declared[name] for name in lengths}
    every = np.concatenate([source.features(name)[:, :13] for name in source.names if name.startswith("theo")])
    np.testing.assert_allclose(every.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(every.std(0), 1, atol=1e-3)


@pytest.mark.real_data
def test_filterbanks_of_sound_are_those_of_kaldis_cepstra() -> None:
    """Kaldi's features of the set are 13 cepstra over 23 filters of sound resampled to 16 kHz, with noise of variance 1
    (dither). So the band above 4 kHz is empty but for the noise and what the resampler leaves there, which is not
    known; a sharp one comes close.
    """
    random = np.random.default_rng(0)
    order = np.arange(13)
    cosines = np.sqrt(2 / 23) * np.cos(np.pi / 23 * np.outer(np.arange(23) + 0.5, order))
    cosines[:, 0] = np.sqrt(1 / 23)
    lifter = 1 + 11 * np.sin(np.pi * order / 22)
    ours, theirs = [], []
    recordings = fsdd.load()
    assert len(recordings) == 3000
    source = opened(KALDI / "digits/data/train", cmvn="none", deltas=0)
    declared = source.declared()
    for name in source.names[::37]:
        samples, rate = recordings[name]
        assert len(fbank(samples, rate)) == declared[name]
        spectrum = np.fft.rfft(samples)
        spectrum = np.concatenate([spectrum, np.zeros(len(samples) + 1 - len(spectrum))])
        resampled = 2 * np.fft.irfft(spectrum, 2 * len(samples))
        noisy = (resampled + random.normal(size=len(resampled))).astype(np.float32)
        ours.append(fbank(noisy, 16000, 23)[:, 1:] @ cosines * lifter)
        theirs.append(source.features(name))
        assert ours[-1].shape == theirs[-1].shape
    a, b = np.concatenate(ours), np.concatenate(theirs)
    together = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in order]
    assert min(together[:4]) > 0.985
    assert np.median(np.abs(a - b), axis=0).max() < 6
    assert (np.median(np.abs(a - b), axis=0) < 0.2 * b.std(0))[:4].all()
