"""The normalizations of both papers by name, and layer normalization as the comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bnrnn.nn.norm.specification import BatchNorm, LayerNorm, Norm, Over, Preset

__all__ = ["PRESETS", "PresetName", "input", "layer", "recurrent", "resolve", "sequence_input", "summed"]

PresetName = Literal["recurrent", "input-frame", "input-sequence", "sequence-input", "summed", "layer"]


def recurrent(gamma: float = 0.1) -> Norm:
    """Cooijmans' BN-LSTM: input, recurrent and (LSTM) cell, each frame-wise."""
    site = BatchNorm("frame", gamma=gamma)
    return Preset(input=site, recurrent=site, cell=site)


def input(statistics: Over = "frame", gamma: float = 1.0) -> Norm:
    """Laurent's input-to-hidden normalization: ``"frame"`` for language models, ``"sequence"`` for speech."""
    return Preset(input=BatchNorm(statistics, gamma=gamma))


def sequence_input(gamma: float = 0.1) -> Norm:
    """Cooijmans' BN-e*: input sequence-wise; recurrent and (LSTM) cell frame-wise."""
    site = BatchNorm("frame", gamma=gamma)
    return Preset(input=BatchNorm("sequence", gamma=gamma), recurrent=site, cell=site)


def summed(gamma: float = 1.0) -> Norm:
    """Laurent's hidden-to-hidden attempt: one frame-wise normalization of the sum."""
    return Preset(summed=BatchNorm("frame", gamma=gamma))


def layer(gamma: float = 1.0) -> Norm:
    """Layer normalization of input, recurrent and (LSTM) cell (Ba et al. 2016)."""
    site = LayerNorm(gamma=gamma)
    return Preset(input=site, recurrent=site, cell=site)


PRESETS: dict[PresetName, Callable[[], Norm]] = {
    "recurrent": recurrent,
    "input-frame": lambda: input("frame"),
    "input-sequence": lambda: input("sequence"),
    "sequence-input": sequence_input,
    "summed": summed,
    "layer": layer,
}


def resolve(norm: Norm | PresetName | None, *, has_cell: bool) -> Norm | None:
    """A layer's ``norm`` argument as the :class:`Norm` of the sites that this layer has.

    Raises:
        ValueError: an unknown name, or ``cell`` asked for on a layer without one.
        TypeError: neither a name nor a Norm.
    """
    if norm is None:
        return None
    if isinstance(norm, str):
        if norm not in PRESETS:
            raise ValueError(f"norm: unknown name {norm!r}; known are {', '.join(map(repr, PRESETS))}")
        norm = PRESETS[norm]()
    if not isinstance(norm, Norm):
        raise TypeError(f"norm must be None, a preset's name or a bnrnn.Norm, got {norm!r}")
    if norm.cell is None or has_cell:
        return norm
    if isinstance(norm, Preset):
        return Norm(input=norm.input, recurrent=norm.recurrent, summed=norm.summed)
    raise ValueError("norm: the site cell belongs to an LSTM; a GRU or RNN has no cell to normalize")
