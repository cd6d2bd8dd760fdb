"""The table of kernels and tiles, and its bounds."""

from __future__ import annotations

import pytest

from bnrnn.ops._triton.choice import Choice, choose


@pytest.mark.parametrize(
    ("gates", "batch", "units", "over_units", "chosen"),
    [
        (4, 20, 1500, False, Choice("step", 32, 8, 8)),
        (4, 64, 100, False, Choice("step", 64, 8, 8)),
        (4, 128, 2000, False, Choice("step", 128, 4, 8)),
        (4, 250, 123, False, Choice("step", 256, 2, 8)),
        (4, 1000, 512, False, Choice("step", 128, 2, 8)),
        (3, 64, 200, False, Choice("step", 64, 8, 8)),
        (1, 256, 100, False, Choice("step", 256, 8, 8)),
        (4, 3, 5, False, Choice("step", 4, 8, 8)),
        (1, 3, 1, False, Choice("step", 4, 1, 8)),
        (4, 64, 100, True, Choice("step", 2, 128, 4)),
        (4, 1, 100, True, Choice("step", 1, 128, 4)),
        (4, 20, 1500, True, Choice("step", 1, 2048, 16)),
        (1, 20, 100, True, Choice("step", 8, 128, 4)),
    ],
)
def test_the_table(gates: int, batch: int, units: int, over_units: bool, chosen: Choice) -> None:
    assert choose(gates, batch, units, over_units) == chosen


@pytest.mark.parametrize("gates", [1, 3, 4])
@pytest.mark.parametrize("batch", [1, 2, 33, 64, 65, 256, 257, 100_000])
def test_a_thread_holds_at_most_eight_values_of_a_tile(gates: int, batch: int) -> None:
    for units in (1, 7, 100, 2000):
        choice = choose(gates, batch, units, False)
        assert (4 if gates > 1 else 1) * choice.rows * choice.units <= 8 * 32 * choice.warps
        assert choice.rows >= batch or choice.rows == 128
