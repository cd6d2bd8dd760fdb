"""The papers' numbers, as the specification prints them."""

from __future__ import annotations

import pytest

from bnrnn.figures.paper import PaperCurve, PaperFigure, paper_figure, paper_source


def figure(key: str) -> PaperFigure:
    found = paper_figure(key)
    assert found is not None
    return found


def test_the_curves_are_the_specifications_checkpoints() -> None:
    """To three digits."""
    printed = {
        ("smnist", "none", "accuracy", "valid"): {500: 0.137, 5000: 0.293, 20_000: 0.429, 50_000: 0.978},
        ("smnist", "recurrent", "accuracy", "valid"): {500: 0.639, 5000: 0.914, 20_000: 0.979, 50_000: 0.984},
        ("pmnist", "none", "accuracy", "valid"): {500: 0.326, 5000: 0.654, 20_000: 0.868, 50_000: 0.900},
        ("pmnist", "recurrent", "accuracy", "valid"): {500: 0.545, 5000: 0.847, 20_000: 0.921, 50_000: 0.937},
        ("pmnist", "recurrent", "loss", "train"): {10_000: 0.339, 20_000: 0.205, 30_000: 0.158, 40_000: 0.130},
        ("pmnist", "recurrent", "loss", "valid"): {1000: 1.029, 10_000: 0.341, 40_000: 0.209},
        ("ptb-char", "none", "bpc", "valid"): {791: 2.223, 2373: 1.679, 7910: 1.489},
        ("ptb-char", "recurrent", "bpc", "valid"): {791: 1.674, 2373: 1.527, 7910: 1.4702},
        ("ptb-char", "recurrent", "bpc", "train"): {791: 1.625, 3164: 1.382, 6328: 1.287, 9492: 1.235, 31_140: 1.092},
        ("cnn-top4", "LSTM", "error", "valid"): {100_000: 0.993, 300_000: 0.728, 600_000: 0.524},
        ("cnn-top4", "BN-LSTM", "error", "train"): {100_000: 0.568, 200_000: 0.232},
        ("cnn-top4", "BN-everywhere", "error", "valid"): {50_000: 0.599, 126_000: 0.500},
        ("cnn-top4", "BN-e*", "error", "valid"): {10_000: 0.704, 100_000: 0.478},
        ("cnn-top4", "BN-e**", "error", "valid"): {10_000: 0.558, 67_000: 0.4398},
        ("cnn-full", "LSTM", "error", "valid"): {100_000: 0.552, 276_000: 0.4527},
        ("cnn-full", "BN-e**", "error", "train"): {10_000: 0.496, 50_000: 0.266},
        ("wsj", "input-sequence", "fce", "train"): {5000: 1.62, 29_500: 0.73},
        ("ptb-word-large", "input-frame", "batch_perplexity", "valid"): {16 * 829: 94.7},
        ("h2h", "summed", "loss", "train"): {20: 1.90},
    }
    for (key, variant, metric, split), points in printed.items():
        curve = figure(key).curve(variant, metric, split)
        assert curve is not None, (key, variant, metric, split)
        for update, value in points.items():
            assert curve.at(update) == pytest.approx(value, abs=0.0015), (key, variant, update)
    assert "1603.09025" in paper_source()


def test_the_tables_are_the_specifications() -> None:
    printed = {
        ("smnist", "test"): [0.989, 0.990],
        ("pmnist", "test"): [0.902, 0.954],
        ("ptb-char", "test"): [1.38, 1.32],
        ("text8", "test"): [1.43, 1.36],
        ("ptb-word-small", "train"): [78.5, 62.5],
        ("ptb-word-small", "valid"): [119.2, 120.9, 119.5, 122.9],
        ("ptb-word-medium", "valid"): [89.0, 90.6],
        ("ptb-word-large", "train"): [49.3, 35.0],
        ("ptb-word-large", "valid"): [81.8, 97.4],
        ("cnn-top4", "valid"): [0.503, 0.495, 0.500, 0.471, 0.439],
        ("cnn-full", "valid"): [0.455, 0.379],
        ("cnn-full", "test"): [0.450, 0.363],
        ("wsj", "train"): [0.95, 0.28, 0.73, 0.22],
        ("wsj", "valid"): [1.11, 0.33, 1.19, 0.34],
    }
    for (key, split), values in printed.items():
        assert [result.value for result in figure(key).results if result.split == split] == values, (key, split)


def test_the_rows_are_the_authors() -> None:
    rows = {key: {curve.rows for curve in figure(key).curves} for key in ("smnist", "pmnist", "ptb-char", "cnn-top4")}
    assert rows == {"smnist": {(100,)}, "pmnist": {(100,)}, "ptb-char": {(64,)}, "cnn-top4": {(64,), (40,), (40, 64)}}
    assert {result.rows for result in figure("ptb-word-small").results} == {(32,)}


def test_the_lengths_are_the_specifications() -> None:
    lstm, population, batch = figure("ptb-char").lengths
    assert (lstm.values[0], population.values[0], batch.values[0]) == (1.4487, 1.398, 1.4201)
    assert lstm.lengths == tuple(range(100, 1001, 100))
    assert all(p < b < x for p, b, x in zip(population.values, batch.values, lstm.values, strict=True))


def test_a_curve_is_interpolated_linearly_and_ends() -> None:
    curve = PaperCurve("c", (0, 100, 300), (0.0, 1.0, 2.0))
    assert [curve.at(update) for update in (0, 50, 100, 200, 300)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert curve.at(-1) is None
    assert curve.at(301) is None


def test_an_unknown_key_is_named() -> None:
    assert paper_figure(None) is None
    with pytest.raises(ValueError, match=r"no key 'cnn'; there are smnist, pmnist"):
        paper_figure("cnn")
