"""The table of kernels and tiles, and its bounds."""

from __future__ import annotations

import pytest

from bnrnn.ops._triton.choice import Choice, Depth, Kernel, choose, depth, tile, using


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
    assert tile(gates, batch, units, over_units) == chosen
    assert choose(gates, batch, units, over_units, False, 132) == chosen


@pytest.mark.parametrize("gates", [1, 3, 4])
@pytest.mark.parametrize("batch", [1, 2, 33, 64, 65, 256, 257, 100_000])
def test_a_thread_holds_at_most_eight_values_of_a_tile(gates: int, batch: int) -> None:
    for units in (1, 7, 100, 2000):
        choice = tile(gates, batch, units)
        assert (4 if gates > 1 else 1) * choice.rows * choice.units <= 8 * 32 * choice.warps
        assert choice.rows >= batch or choice.rows == 128


@pytest.mark.parametrize(
    ("kernel", "gates", "batch", "units", "chosen"),
    [
        ("dot", 4, 64, 100, Choice("dot", 64, 8, 8)),
        ("dot", 4, 3, 100, Choice("dot", 16, 8, 8)),
        ("scan", 4, 64, 240, Choice("scan", 64, 8, 8)),
        ("scan", 4, 128, 250, Choice("scan", 128, 4, 8)),
        ("scan", 3, 64, 250, Choice("scan", 64, 8, 8)),
        ("step", 4, 64, 100, Choice("step", 64, 8, 8)),
    ],
)
def test_a_kernel_that_is_asked_for(kernel: Kernel, gates: int, batch: int, units: int, chosen: Choice) -> None:
    with using(kernel):
        assert choose(gates, batch, units, False, False, 132) == chosen
        with using("step"):
            assert choose(gates, batch, units, False, False, 132).kernel == "step"
        assert choose(gates, batch, units, False, False, 132) == chosen
    assert choose(gates, batch, units, False, False, 132).kernel == "step"


@pytest.mark.parametrize(
    ("kernel", "batch", "units", "over_units", "projected", "said"),
    [
        ("dot", 64, 100, True, False, "no layer normalization"),
        ("scan", 64, 100, False, True, "no projection"),
        ("dot", 257, 100, False, False, "at most 256 rows"),
        ("scan", 64, 2000, False, False, "250 programs for 2000 units, 132 run at once"),
    ],
)
def test_a_kernel_that_does_not_cover_a_shape(
    kernel: Kernel, batch: int, units: int, over_units: bool, projected: bool, said: str
) -> None:
    with using(kernel), pytest.raises(ValueError, match=said):
        choose(4, batch, units, over_units, projected, 132)


def test_an_unknown_kernel(unchecked: None) -> None:
    with pytest.raises(ValueError, match="'step', 'dot', 'scan', got 'other'"), using("other"):  # type: ignore[arg-type]
        pass


def test_a_scan_holds_the_weight_where_it_fits() -> None:
    scan, dot = Choice("scan", 64, 8, 8), Choice("dot", 64, 8, 8)
    assert depth(scan, 100, 4) == Depth(128, True, 1)
    assert depth(scan, 250, 4) == Depth(256, True, 1)
    assert depth(scan, 400, 4) == Depth(32, False, 3)
    assert depth(Choice("scan", 128, 4, 8), 100, 4) == Depth(128, True, 1)
    assert depth(Choice("scan", 128, 4, 8), 250, 4) == Depth(32, False, 3)
    assert depth(dot, 100, 4) == Depth(32, False, 3)
    assert depth(dot, 100, 2) == Depth(64, False, 3)
    assert depth(dot, 5, 4) == Depth(16, False, 3)
