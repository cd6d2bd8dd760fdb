"""The layers and what belongs to them."""

from bnrnn.nn import norms
from bnrnn.nn.gru import GRU
from bnrnn.nn.lstm import LSTM
from bnrnn.nn.masked import MaskedBatchNorm
from bnrnn.nn.norm import BatchNorm, LayerNorm, Norm, Shift
from bnrnn.nn.rnn import RNN
from bnrnn.nn.statistics import batch_statistics, estimate_population_statistics

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
    "norms",
]
