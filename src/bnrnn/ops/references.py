"""The cells' references by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bnrnn.ops.cells import Name
from bnrnn.ops.gru.reference import gru
from bnrnn.ops.lstm.reference import lstm
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.rnn.reference import rnn

REFERENCES: dict[Name, Callable[[Recurrence], Result]] = {
    "lstm": lstm,
    "gru": gru,
    "tanh": partial(rnn, nonlinearity="tanh"),
    "relu": partial(rnn, nonlinearity="relu"),
}
