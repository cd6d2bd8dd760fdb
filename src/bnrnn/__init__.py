"""Normalized recurrent networks: LSTM, GRU and RNN layers with batch normalization inside the recurrence."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from bnrnn.experiments.opened import load_run as load_run

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


def __getattr__(name: str) -> Any:
    if name == "load_run":  # of the experiments, which have an extra of their own
        try:
            from bnrnn.experiments.opened import load_run
        except ModuleNotFoundError as error:
            reason = f"the package {error.name} is missing; bnrnn.load_run needs pip install 'bnrnn[experiments]'"
            raise ModuleNotFoundError(reason, name=error.name) from error
        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
