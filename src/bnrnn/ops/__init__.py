"""The recurrences as functions: one layer in one direction, without parameters of their own."""

from bnrnn.ops.gru import gru
from bnrnn.ops.lstm import lstm
from bnrnn.ops.rnn import rnn
from bnrnn.ops.sites import Site, Sites

__all__ = ["Site", "Sites", "gru", "lstm", "rnn"]
