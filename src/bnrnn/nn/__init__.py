"""The layers and what belongs to them."""

from bnrnn.nn.folding import fold
from bnrnn.nn.gru import GRU
from bnrnn.nn.lstm import LSTM
from bnrnn.nn.masked import MaskedBatchNorm
from bnrnn.nn.norm import (
    BatchNorm,
    LayerNorm,
    Norm,
    Shift,
    batch_statistics,
    estimate_population_statistics,
    synchronize,
)
from bnrnn.nn.norm import presets as norms
from bnrnn.nn.rnn import RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm",
    "LayerNorm",
    "MaskedBatchNorm",
    "Norm",
    "Shift",
    "batch_statistics",
    "estimate_population_statistics",
    "fold",
    "norms",
    "synchronize",
]
