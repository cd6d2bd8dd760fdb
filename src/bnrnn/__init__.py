"""Normalized recurrent networks: LSTM, GRU and RNN layers with batch normalization inside the recurrence."""

from bnrnn.nn import (
    GRU,
    LSTM,
    RNN,
    BatchNorm,
    LayerNorm,
    Norm,
    Shift,
    batch_statistics,
    estimate_population_statistics,
    norms,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm",
    "LayerNorm",
    "Norm",
    "Shift",
    "batch_statistics",
    "estimate_population_statistics",
    "norms",
]
