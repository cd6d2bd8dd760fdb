"""The recurrences as functions: one layer in one direction, without parameters of their own."""

from typing import Any

from bnrnn.ops import loading
from bnrnn.ops._triton import availability
from bnrnn.ops.average import average_
from bnrnn.ops.gru.function import gru
from bnrnn.ops.loading import release_memory
from bnrnn.ops.lstm.function import lstm
from bnrnn.ops.rnn.function import rnn
from bnrnn.ops.sites import Site, Sites

__all__ = ["Site", "Sites", "average_", "backends", "gru", "lstm", "release_memory", "rnn"]


def backends() -> dict[str, dict[str, Any]]:
    """What can run the recurrences here: for each backend whether it is available, and why not or on what it runs."""
    return {"reference": {"available": True}, "cpu": loading.facts(), "triton": availability.facts()}
