"""Normalized recurrent networks: LSTM, GRU and RNN layers with batch normalization inside the recurrence."""

from bnrnn.nn import (
    GRU,
    LSTM,
    RNN,
    BatchNorm,
    LayerNorm,
    MaskedBatchNorm,
    Norm,
    Shift,
    batch_statistics,
    estimate_population_statistics,
    fold,
    norms,
    synchronize,
)
from bnrnn.ops import backends, release_memory

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm",
    "LayerNorm",
    "MaskedBatchNorm",
    "Norm",
    "Shift",
    "backends",
    "batch_statistics",
    "estimate_population_statistics",
    "fold",
    "norms",
    "release_memory",
    "synchronize",
]
