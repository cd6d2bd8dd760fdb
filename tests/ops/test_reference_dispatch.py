"""Which implementation a call takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bnrnn.ops import Site, Sites
from bnrnn.ops.cells import CELLS
from bnrnn.ops.dispatch import BACKENDS, choose
from bnrnn.ops.sites import split

pytestmark = pytest.mark.usefixtures("unchecked")


CALL: Any = object()


def kernel(name: str, reason: str | None) -> Any:
    def unsupported(cell: Any, call: Any) -> str | None:
        assert (cell, call) == (CELLS["gru"], CALL)
        return reason

    return SimpleNamespace(name=name, unsupported=unsupported)


@pytest.mark.parametrize(
    ("backend", "reasons", "taken"),
    [
        ("auto", {}, None),
        ("auto", {"cpu": "dtype"}, None),
        ("auto", {"cpu": None}, "cpu"),
        ("auto", {"triton": None, "cpu": None}, "triton"),
        ("auto", {"triton": "device", "cpu": None}, "cpu"),
        ("reference", {}, None),
        ("reference", {"cpu": None}, None),
        ("cpu", {"triton": None, "cpu": None}, "cpu"),
        ("triton", {"cpu": None, "triton": None}, "triton"),
    ],
)
def test_the_choice(backend: Any, reasons: dict[str, str | None], taken: str | None) -> None:
    chosen = choose(backend, [kernel(*item) for item in reasons.items()], CELLS["gru"], CALL)
    assert (chosen and chosen.name) == taken


@pytest.mark.parametrize(
    ("backend", "reasons", "reason"),
    [
        ("cpu", {}, "it is not built here"),
        ("cpu", {"cpu": "a reason"}, "a reason"),
        ("cpu", {"triton": None, "cpu": "a reason"}, "a reason"),
        ("triton", {"cpu": None}, "it is not built here"),
        ("torch", {"cpu": None}, "torch's own recurrences are whole layers"),
        ("gpu", {"cpu": None}, "allowed are 'auto', 'reference', 'cpu', 'triton', 'torch'"),
    ],
)
def test_what_the_kernel_does_not_cover(backend: Any, reasons: dict[str, str | None], reason: str) -> None:
    with pytest.raises(ValueError, match=f"backend='{backend}' cannot take this call: {reason}.*; use backend='auto'"):
        choose(backend, [kernel(*item) for item in reasons.items()], CELLS["gru"], CALL)


def test_names() -> None:
    assert BACKENDS == ("auto", "reference", "cpu", "triton", "torch")


def test_which_sites_take_batch_statistics() -> None:
    import torch

    table = torch.zeros(1, 2)
    assert Site("frame").takes_batch_statistics
    assert Site("sequence").takes_batch_statistics
    assert not Site("frame", mean=table, var=table).takes_batch_statistics
    assert not Site("layer").takes_batch_statistics
    assert not Site("shift").takes_batch_statistics


def test_splitting_a_site_along_its_features() -> None:
    import torch

    assert split(None, (2, 1)) == [None, None]
    site = Site("frame", torch.arange(3.0), None, 0.5, 4, torch.arange(6.0).view(2, 3), torch.ones(2, 3))
    first, second = split(site, (2, 1))
    assert first.gamma.tolist() == [0, 1]
    assert second.gamma.tolist() == [2]
    assert first.mean.tolist() == [[0, 1], [3, 4]]
    assert second.mean.tolist() == [[2], [5]]
    assert (first.beta, first.eps, first.min_rows, first.kind) == (None, 0.5, 4, "frame")
    assert Sites() == (None, None, None, None)
