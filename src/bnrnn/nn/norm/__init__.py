"""Normalization of a recurrent layer: what is said of it, its presets, a site's module, its population statistics."""

from bnrnn.nn.norm.estimation import batch_statistics, estimate_population_statistics, synchronize
from bnrnn.nn.norm.presets import PresetName
from bnrnn.nn.norm.site import Normalization
from bnrnn.nn.norm.specification import BatchNorm, LayerNorm, Norm, Shift

__all__ = [
    "BatchNorm",
    "LayerNorm",
    "Norm",
    "Normalization",
    "PresetName",
    "Shift",
    "batch_statistics",
    "estimate_population_statistics",
    "synchronize",
]
