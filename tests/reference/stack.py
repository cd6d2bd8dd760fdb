"""Layers and directions: a whole LSTM, GRU or RNN by its torch.nn parameter names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reference.cells import Sites, Tables, gru, lstm, rnn
from reference.normalization import Site


def _sites(
    parameters: Mapping[str, np.ndarray], norm: Mapping[str, Site], suffix: str, start: int, training: bool
) -> Sites:
    sites = {}
    for name, site in norm.items():
        own = {key: parameters.get(f"norm{suffix}.{name}.{key}") for key in ("gamma", "beta", "mean", "var")}
        if training or site.kind not in ("frame", "sequence"):
            own["mean"] = own["var"] = None
        elif site.kind == "frame":
            first = min(start, len(own["mean"]) - 1)
            own["mean"], own["var"] = own["mean"][first:], own["var"][first:]
        sites[name] = Site(site.kind, own["gamma"], own["beta"], site.eps, site.min_rows, own["mean"], own["var"])
    return sites


def _backwards(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    result = np.zeros_like(x)
    for row, length in enumerate(lengths):
        result[:length, row] = x[:length, row][::-1]
    return result


def stack(
    cell: str,
    x: np.ndarray,
    parameters: Mapping[str, np.ndarray],
    *,
    norm: Mapping[str, Site] | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    hx: tuple[np.ndarray, ...],
    lengths: np.ndarray | None = None,
    start: int = 0,
    training: bool = True,
    nonlinearity: str = "tanh",
    masks: Mapping[str, np.ndarray] | None = None,
    zoneout: Mapping[str, tuple[np.ndarray | float | None, ...]] | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, Tables]]:
    """Outputs, final states and the batch statistics of each layer and direction, by its suffix.

    ``parameters`` holds weights and, in evaluation, population statistics under the names of the layer's state_dict.
    ``norm`` gives kind, eps and min_rows of each site; ``masks`` and ``zoneout`` are by suffix, hidden before cell.
    """
    norm, masks, zoneout = norm or {}, masks or {}, zoneout or {}
    lengths = np.full(x.shape[1], x.shape[0]) if lengths is None else np.asarray(lengths)
    finals, taken = [], {}
    for layer in range(num_layers):
        outputs = []
        for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: 2 if bidirectional else 1]:
            own = {k: parameters.get(k + suffix) for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")}
            state = [s[len(finals)] for s in hx]
            zones = zoneout.get(suffix, (None, None))
            options = {
                "sites": _sites(parameters, norm, suffix, start, training),
                "lengths": lengths,
                "mask": masks.get(suffix),
                "zoneout_h": zones[0],
            }
            seen = _backwards(x, lengths) if suffix.endswith("reverse") else x
            both = [b for b in (own["bias_ih"], own["bias_hh"]) if b is not None]
            bias = sum(both) if both else None
            if cell == "LSTM":
                output, *final, statistics = lstm(
                    seen,
                    *state,
                    own["weight_ih"],
                    own["weight_hh"],
                    bias,
                    own["weight_hr"],
                    zoneout_c=zones[1],
                    **options,
                )
            elif cell == "GRU":
                output, *final, statistics = gru(
                    seen, *state, own["weight_ih"], own["weight_hh"], own["bias_ih"], own["bias_hh"], **options
                )
            else:
                output, *final, statistics = rnn(
                    seen, *state, own["weight_ih"], own["weight_hh"], bias, nonlinearity=nonlinearity, **options
                )
            outputs.append(_backwards(output, lengths) if suffix.endswith("reverse") else output)
            finals.append(final)
            taken[suffix] = statistics
        x = np.concatenate(outputs, -1)
    return x, tuple(np.stack(s) for s in zip(*finals, strict=True)), taken
