"""Which implementation a call takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bnrnn.ops import Site, Sites
from bnrnn.ops.dispatch import BACKENDS, dispatch
from bnrnn.ops.sites import split

pytestmark = pytest.mark.usefixtures("unchecked")


def reference(*args: Any, **kwargs: Any) -> Any:
    return "reference", args, kwargs


def kernel(reason: str | None) -> Any:
    return SimpleNamespace(
        unsupported=lambda *args, **kwargs: reason, cpu=lambda *args, **kwargs: ("cpu", args, kwargs)
    )


@pytest.mark.parametrize(
    ("backend", "of", "taken"),
    [
        ("auto", None, "reference"),
        ("auto", kernel("dtype"), "reference"),
        ("auto", kernel(None), "cpu"),
        ("reference", None, "reference"),
        ("reference", kernel(None), "reference"),
        ("cpu", kernel(None), "cpu"),
    ],
)
def test_the_choice(backend: Any, of: Any, taken: str) -> None:
    assert dispatch(backend, reference, of, 1, 2, three=3) == (taken, (1, 2), {"three": 3})


@pytest.mark.parametrize(("of", "reason"), [(None, "it is not built"), (kernel("a reason"), "a reason")])
def test_what_the_kernel_does_not_cover(of: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"backend='cpu' cannot take this call: {reason}; use backend='auto'"):
        dispatch("cpu", reference, of, 1)


def test_names() -> None:
    assert BACKENDS == ("auto", "reference", "cpu")


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
