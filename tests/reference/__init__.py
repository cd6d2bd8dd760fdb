"""The papers' equations in plain float64 NumPy: slow, row by row, sharing nothing with the package.

Every function also takes complex arrays, so that :func:`reference.derivative.directional` gives derivatives to machine
precision by the complex-step method.
"""

from reference.cells import gru, lstm, rnn
from reference.derivative import directional
from reference.normalization import Site, Taken
from reference.stack import stack

__all__ = ["Site", "Taken", "directional", "gru", "lstm", "rnn", "stack"]
