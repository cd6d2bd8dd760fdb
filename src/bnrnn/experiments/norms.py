"""The normalizations that every experiment offers by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import bnrnn
from bnrnn.nn.norm import PresetName

NormName: TypeAlias = Literal["none"] | PresetName


def norm_of(name: NormName, gamma: float | None = None) -> bnrnn.Norm | None:
    """The normalization of a name.

    Args:
        name: ``"none"``, or one of the library's presets.
        gamma: initial gain of the batch normalizations, None for the preset's own.

    Raises:
        ValueError: unknown name.
    """
    gain = {} if gamma is None else {"gamma": gamma}
    match name:
        case "none":
            return None
        case "recurrent":
            return bnrnn.norms.recurrent(**gain)
        case "input-frame":
            return bnrnn.norms.input("frame", **gain)
        case "input-sequence":
            return bnrnn.norms.input("sequence", **gain)
        case "sequence-input":
            return bnrnn.norms.sequence_input(**gain)
        case "summed":
            return bnrnn.norms.summed(**gain)
        case "layer":
            return bnrnn.norms.layer()
    raise ValueError(f"norm must be one of none, {', '.join(get_args(PresetName))}, got {name!r}")


def takes_frame_statistics(norm: bnrnn.Norm | None) -> bool:
    """Whether any site takes its statistics over the batch alone, so that one row has none."""
    sites = {} if norm is None else norm.sites()
    return any(isinstance(site, bnrnn.BatchNorm) and site.statistics == "frame" for site in sites.values())
