"""Deltas and normalization against their definitions, filterbanks against their own parts."""

from __future__ import annotations

import io
import wave

import kaldi_native_fbank
import numpy as np
import pytest

from bnrnn.data.kaldi.fbank import fbank, read_wav
from bnrnn.data.kaldi.features import apply_cmvn, cmvn_statistics, deltas
from bnrnn.data.registry import DataError


def add_deltas(x: np.ndarray, order: int, window: int) -> np.ndarray:
    """Kaldi's DeltaFeatures as its source has it: scales by recursion, then each frame by itself."""
    scales = [np.ones(1)]
    for _ in range(order):
        before = scales[-1]
        reach = len(before) // 2 + window
        now = np.zeros(2 * reach + 1)
        for j in range(-window, window + 1):
            for k in range(-(len(before) // 2), len(before) // 2 + 1):
                now[j + k + reach] += j * before[k + len(before) // 2]
        scales.append(now / sum(j * j for j in range(-window, window + 1)))
    found = np.zeros((len(x), x.shape[1] * (order + 1)))
    for frame in range(len(x)):
        for i, scale in enumerate(scales):
            reach = len(scale) // 2
            for j in range(-reach, reach + 1):
                source = min(max(frame + j, 0), len(x) - 1)
                found[frame, i * x.shape[1] : (i + 1) * x.shape[1]] += scale[j + reach] * x[source]
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 5, 23])
@pytest.mark.parametrize(("order", "window"), [(2, 2), (1, 2), (3, 1), (2, 3), (0, 2)])
def test_deltas_are_kaldis_at_the_borders_too(length: int, order: int, window: int) -> None:
    x = np.random.default_rng(length).normal(size=(length, 4)).astype(np.float32)
    found = deltas(x, order, window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, add_deltas(x, order, window), atol=1e-6)
    options = kaldi_native_fbank.DeltaOptions()
    options.order, options.window = order, window
    np.testing.assert_allclose(found, kaldi_native_fbank.compute_deltas(options, x), atol=1e-5)


def test_second_differences_at_a_border_are_not_differences_of_differences() -> None:
    x = np.array([[0.0], [1.0], [4.0], [9.0], [16.0], [25.0]], np.float32)
    nested = deltas(deltas(x, 1)[:, 1:], 1)[:, 1:]
    found = deltas(x, 2)[:, 2:]
    assert abs(nested[0, 0] - found[0, 0]) > 0.1


@pytest.mark.parametrize("variance", [False, True])
def test_normalization_takes_mean_and_variance_off(variance: bool) -> None:
    parts = [np.random.default_rng(k).normal(3, 2, size=(9 + k, 5)).astype(np.float32) for k in range(3)]
    statistics = cmvn_statistics(parts)
    assert statistics.shape == (2, 6)
    assert statistics[0, -1] == 9 + 10 + 11
    found = np.concatenate([apply_cmvn(x, statistics, variance) for x in parts])
    everything = np.concatenate(parts).astype(np.float64)
    wanted = everything - everything.mean(0)
    np.testing.assert_allclose(found, wanted / everything.std(0) if variance else wanted, atol=1e-5)


def test_wrong_normalizations_are_named() -> None:
    x = np.ones((4, 5), np.float32)
    with pytest.raises(DataError, match=r"shape \(2, 4\), and features of 5 dimensions need \(2, 6\)"):
        apply_cmvn(x, np.ones((2, 4)))
    with pytest.raises(DataError, match="over no frames"):
        apply_cmvn(x, np.zeros((2, 6)))


def sound(seconds: float, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    count = int(seconds * rate)
    samples = (1000 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes() if width == 2 else bytes(count * width))
    return stream.getvalue()


def test_filterbanks_have_energy_first_and_peak_where_the_tone_is() -> None:
    samples, rate = read_wav(sound(0.5))
    found = fbank(samples, rate)
    assert found.shape == ((4000 - 200) // 80 + 1, 41)
    frame = samples[:200] - samples[:200].mean()
    np.testing.assert_allclose(found[0, 0], np.log((frame.astype(np.float64) ** 2).sum()), rtol=1e-5)
    mel = 1127 * np.log(1 + np.array([20, 440, 4000]) / 700)
    centres = mel[0] + (np.arange(40) + 1) * (mel[2] - mel[0]) / 41
    assert abs(int(found[10, 1:].argmax()) - int(np.abs(centres - mel[1]).argmin())) <= 1


def test_filterbanks_are_the_same_every_time_and_empty_for_too_short_sounds() -> None:
    samples, rate = read_wav(sound(0.1))
    np.testing.assert_array_equal(fbank(samples, rate), fbank(samples, rate))
    assert fbank(samples[:100], rate).shape == (0, 41)


def test_pieces_of_a_recording() -> None:
    whole, _ = read_wav(sound(1.0))
    piece, _ = read_wav(sound(1.0), 0.25, 0.75)
    np.testing.assert_array_equal(piece, whole[2000:6000])
    with pytest.raises(DataError, match="does not lie"):
        read_wav(sound(1.0), 0.5, 2.0)


@pytest.mark.parametrize("case", ["stereo", "bytes", "empty", "other", "truncated"])
def test_sounds_that_cannot_be_read(case: str) -> None:
    content = {
        "stereo": sound(0.1, channels=2),
        "bytes": sound(0.1, width=1),
        "empty": b"",
        "other": b"RIFFxxxx",
        "truncated": sound(0.1)[:-50],
    }[case]
    with pytest.raises(DataError):
        read_wav(content)
