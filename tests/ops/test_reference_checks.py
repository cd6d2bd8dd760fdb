"""What does not fit together is refused before a backend works on it; a kernel would read beyond its memory."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from bnrnn import ops
from bnrnn.ops import Site, Sites

pytestmark = pytest.mark.usefixtures("unchecked")

T, B, I, H, R = 5, 4, 3, 6, 2  # noqa: E741
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def good(cell: str, projection: bool = False) -> dict[str, Any]:
    width, output = GATES[cell] * H, R if projection else H
    arguments = {
        "x": torch.zeros(T, B, I),
        "h0": torch.zeros(B, output),
        "weight_ih": torch.zeros(width, I),
        "weight_hh": torch.zeros(width, output),
        "bias": torch.zeros(width),
    }
    if cell == "lstm":
        arguments["c0"] = torch.zeros(B, H)
    if cell == "gru":
        arguments["bias_hn"] = torch.zeros(H)
    if projection:
        arguments["weight_hr"] = torch.zeros(R, H)
    return arguments


def frame(n: int, rows: int = T, **options: Any) -> Site:
    return Site("frame", mean=torch.zeros(rows, n), var=torch.ones(rows, n), **options)


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("lstm", {"x": torch.zeros(T, B, I + 1)}, "x must have shape (5, 4, 3), got (5, 4, 4)"),
    ("lstm", {"x": torch.zeros(T, B)}, "x must have shape (T, B, I), or (T, B) if it is integers, got (5, 4)"),
    ("lstm", {"x": torch.zeros(T, B, I).long()}, "x must have shape (T, B, I), or (T, B) if it is integers"),
    ("lstm", {"h0": torch.zeros(B, H - 1)}, "h0 must have shape (4, 6), got (4, 5)"),
    ("lstm", {"c0": torch.zeros(B + 1, H)}, "c0 must have shape (4, 6), got (5, 6)"),
    ("lstm", {"weight_ih": torch.zeros(4 * H - 1, I)}, "weight_ih must have a multiple of 4 rows, got (23, 3)"),
    ("lstm", {"weight_ih": torch.zeros(4 * H - 4, I)}, "bias must have shape (20,), got (24,)"),
    ("lstm", {"weight_hh": torch.zeros(4 * H, H - 1)}, "weight_hh must have shape (20, 5), got (24, 5)"),
    ("lstm", {"bias": torch.zeros(H)}, "bias must have shape (24,), got (6,)"),
    ("gru", {"bias_hn": torch.zeros(3 * H)}, "bias_hn must have shape (6,), got (18,)"),
    ("gru", {"weight_hh": torch.zeros(2 * H, H)}, "weight_hh must have shape (18, 6), got (12, 6)"),
    ("gru", {"h0": torch.zeros(1, B, H)}, "h0 must have shape (4, 6), got (1, 4, 6)"),
    ("gru", {"weight_ih": torch.zeros(3 * H + 1, I)}, "weight_ih must have a multiple of 3 rows, got (19, 3)"),
    ("rnn", {"weight_hh": torch.zeros(H, H + 1)}, "weight_hh must have shape (7, 7), got (6, 7)"),
    ("rnn", {"h0": torch.zeros(B, H + 1)}, "h0 must have shape (4, 6), got (4, 7)"),
    ("lstm", {"batch_sizes": torch.tensor([4, 3, 2, 1])}, "batch_sizes must have shape (5,), got (4,)"),
    ("gru", {"batch_sizes": torch.tensor([5, 4, 3, 2, 1])}, "batch_sizes must not increase and lie between 0 and 4"),
    ("rnn", {"batch_sizes": torch.tensor([3, 4, 3, 2, 1])}, "batch_sizes must not increase and lie between 0 and 4"),
    ("lstm", {"batch_sizes": torch.tensor([4, 4, 3, 2, -1])}, "between 0 and 4, got [4, 4, 3, 2, -1]"),
    ("lstm", {"recurrent_mask": torch.ones(B, H - 1)}, "recurrent_mask must have shape (4, 6), got (4, 5)"),
    ("lstm", {"zoneout_h": torch.ones(T - 1, B, H)}, "zoneout_h must have shape (5, 4, 6), got (4, 4, 6)"),
    ("lstm", {"zoneout_c": torch.ones(B, H)}, "zoneout_c must have shape (5, 4, 6), got (4, 6)"),
    ("gru", {"zoneout_h": torch.ones(T, B, 1)}, "zoneout_h must have shape (5, 4, 6), got (5, 4, 1)"),
    (
        "lstm",
        {"sites": Sites(recurrent=Site("frame", torch.ones(H)))},
        "sites: recurrent's gamma must have shape (24,)",
    ),
    ("lstm", {"sites": Sites(cell=Site("layer", torch.ones(4 * H)))}, "sites: cell's gamma must have shape (6,)"),
    ("lstm", {"sites": Sites(cell=Site("shift", None, torch.ones(1)))}, "sites: cell's beta must have shape (6,)"),
    ("gru", {"sites": Sites(summed=frame(3 * H, T - 1))}, "sites: summed's mean must have shape (5, 18), got (4, 18)"),
    (
        "rnn",
        {"sites": Sites(input=Site("sequence", mean=torch.zeros(T, H), var=torch.ones(T, H)))},
        "sites: input's mean must have shape (1, 6), got (5, 6)",
    ),
    (
        "rnn",
        {"sites": Sites(input=frame(H)._replace(var=torch.ones(T, 1)))},
        "sites: input's var must have shape (5, 6), got (5, 1)",
    ),
    (
        "lstm",
        {"sites": Sites(recurrent=Site("frame", min_rows=5))},
        "sites: recurrent needs 5 valid rows at the first step, got 4",
    ),
    (
        "gru",
        {"sites": Sites(input=Site("frame")), "batch_sizes": torch.tensor([1, 1, 1, 0, 0])},
        "sites: input needs 2 valid rows at the first step, got 1",
    ),
]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("cell", "wrong", "message"), CASES)
def test_what_does_not_fit(cell: str, wrong: dict[str, Any], message: str, backend: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(ops, cell)(**{**good(cell), **wrong}, backend=backend)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"h0": torch.zeros(B, H)}, "h0 must have shape (4, 2), got (4, 6)"),
        ({"weight_hh": torch.zeros(4 * H, H)}, "weight_hr must have shape (6, 6), got (2, 6)"),
        ({"weight_hr": torch.zeros(H, R)}, "weight_hr must have shape (2, 6), got (6, 2)"),
        ({"zoneout_h": torch.zeros(T, B, H)}, "zoneout_h must have shape (5, 4, 2), got (5, 4, 6)"),
        ({"recurrent_mask": torch.zeros(B, H)}, "recurrent_mask must have shape (4, 2), got (4, 6)"),
    ],
)
def test_what_does_not_fit_a_projection(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ops.lstm(**{**good("lstm", projection=True), **wrong})


@pytest.mark.parametrize("cell", list(GATES))
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_tokens_beyond_the_weight(cell: str, backend: Any) -> None:
    for token in (I, -1):
        with pytest.raises((IndexError, RuntimeError), match=r"out of range|index -?\d is not a row of the input"):
            getattr(ops, cell)(**{**good(cell), "x": torch.full((T, B), token)}, backend=backend)


@pytest.mark.parametrize("cell", list(GATES))
def test_what_fits(cell: str) -> None:
    """All zeros: gates at one half, a candidate of zero."""
    output, *states, statistics = getattr(ops, cell)(**good(cell))
    assert output.shape == (T, B, H)
    assert not output.any()
    assert not any(s.any() for s in states)
    assert statistics == {}
