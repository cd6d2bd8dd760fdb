"""Layers with nothing special about their numbers, and their counterparts in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import bnrnn
import reference
from bnrnn import BatchNorm, LayerNorm, Norm, Shift
from bnrnn.nn.norm.table import Table

FRAME, SEQUENCE, LAYER = BatchNorm("frame", gamma=0.7), BatchNorm("sequence", gamma=0.7), LayerNorm()
CLASSES = {"LSTM": bnrnn.LSTM, "GRU": bnrnn.GRU, "RNN": bnrnn.RNN}

NORMS: dict[str, Norm | str | None] = {
    "none": None,
    **{name: name for name in bnrnn.norms.PRESETS},
    "only recurrent": Norm(recurrent=FRAME),
    "only recurrent layer": Norm(recurrent=LAYER),
    "input layer, recurrent frame": Norm(input=LAYER, recurrent=FRAME),
    "input sequence, recurrent layer": Norm(input=SEQUENCE, recurrent=LAYER),
    "summed layer": Norm(summed=LAYER),
}
LSTM_NORMS: dict[str, Norm | str | None] = {
    **NORMS,
    "only cell": Norm(cell=FRAME),
    "only cell layer": Norm(cell=LAYER),
    "shift": Norm(cell=Shift()),
    "summed and cell": Norm(summed=FRAME, cell=FRAME),
}


def norms_of(cell: str) -> dict[str, Norm | str | None]:
    return LSTM_NORMS if cell == "LSTM" else NORMS


def make(cell: str, *args: Any, seed: int = 0, statistics: int = 0, **options: Any) -> Any:
    """A float64 layer of random parameters; with ``statistics``, also random population tables of so many rows."""
    options.setdefault("dtype", torch.float64)
    layer = CLASSES[cell](*args, **options)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            parameter.copy_(1 + 0.3 * noise if name.endswith("gamma") else 0.5 * noise)
    if statistics:
        for module in layer.modules():
            if hasattr(module, "count"):
                rows = 1 if module.is_sequence else statistics
                mean = torch.randn(rows, module.size, generator=g, dtype=torch.float64)
                var = 0.5 + torch.rand(rows, module.size, generator=g, dtype=torch.float64)
                module.restore(Table(mean, var, torch.full((rows,), 3)))
    return layer


def tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64).to(dtype)


def states(layer: Any, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Random initial states, hidden and (LSTM) cell."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [getattr(layer, "proj_size", 0) or layer.hidden_size]
    if isinstance(layer, bnrnn.LSTM):
        sizes.append(layer.hidden_size)
    return tuple(tensor(count, batch, size, seed=seed + 50 + k) for k, size in enumerate(sizes))


def call(layer: Any, x: Any, hx: Sequence[Tensor] | None = None, **kwargs: Any) -> tuple[Any, tuple[Tensor, ...]]:
    """Output and a tuple of final states, whatever the cell."""
    if hx is not None:
        kwargs["hx"] = tuple(hx) if isinstance(layer, bnrnn.LSTM) else hx[0]
    output, final = layer(x, **kwargs)
    return output, final if isinstance(final, tuple) else (final,)


def numpy_norm(layer: Any) -> dict[str, reference.Site]:
    """What the layer's norm says, as the NumPy version takes it."""
    result = {}
    for name, spec in layer.norm.sites().items() if layer.norm else ():
        if isinstance(spec, BatchNorm):
            result[name] = reference.Site(spec.statistics, eps=spec.eps, min_rows=spec.min_rows)
        elif isinstance(spec, LayerNorm):
            result[name] = reference.Site("layer", eps=spec.eps)
        else:
            result[name] = reference.Site("shift")
    return result


def numpy_state(layer: Any) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in layer.state_dict().items()}


def numpy_call(
    layer: Any,
    x: np.ndarray,
    hx: Sequence[np.ndarray],
    parameters: Mapping[str, np.ndarray] | None = None,
    **kwargs: Any,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, Any]]:
    """The NumPy version of the layer, time first."""
    zoneout = {} if layer.training or not any(layer._zoneout) else {"zoneout": _expected_zoneout(layer)}
    return reference.stack(
        type(layer).__name__,
        x,
        numpy_state(layer) if parameters is None else parameters,
        norm=numpy_norm(layer),
        num_layers=layer.num_layers,
        bidirectional=layer.bidirectional,
        hx=tuple(hx),
        training=kwargs.pop("training", layer.training),
        nonlinearity=getattr(layer, "nonlinearity", "tanh"),
        **{**zoneout, **kwargs},
    )


def _expected_zoneout(layer: Any) -> dict[str, tuple[float, ...]]:
    suffixes = [f"_l{k}{end}" for k in range(layer.num_layers) for end in ("", "_reverse")]
    return dict.fromkeys(suffixes, layer._zoneout)


def tables(layer: Any) -> dict[str, dict[str, Tensor]]:
    """The population statistics and counts by the name of their site, copied: the rows in use."""
    return {
        name: {key: getattr(module, key)[: module.rows_in_use].clone() for key in ("mean", "var", "count")}
        for name, module in layer.named_modules()
        if hasattr(module, "count")
    }


def close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Equal shape, dtype float64 and numbers, relative to 1 or to their size."""
    actual = actual.detach() if isinstance(actual, Tensor) else torch.as_tensor(actual)
    expected = expected.detach() if isinstance(expected, Tensor) else torch.as_tensor(np.asarray(expected))
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
