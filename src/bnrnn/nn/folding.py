"""A normalized layer in evaluation as the torch.nn layer that computes the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnrnn.nn.affine import affine
from bnrnn.nn.norm import BatchNorm, LayerNorm, Shift
from bnrnn.nn.parameters import RecurrentParameters


def fold(layer: nn.Module) -> nn.LSTM | nn.GRU | nn.RNN:
    r"""The torch.nn layer with the outputs of a layer in ``eval()``, with the statistics put into its weights.

    Known statistics make of a normalization a scale and a shift,
    :math:`N(W x) = \frac{\gamma}{\sqrt{v + \epsilon}} (W x - m)`, which are weights and biases again, if they are the
    same at every time step and act before the cell's nonlinearities. So it is with ``"sequence"`` statistics and with a
    table of one row in use (``max_steps=1``); the tables of ``"frame"`` statistics have a row for each step.

    Args:
        layer: a :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN`.

    Returns:
        A new layer in ``eval()``, on the same device and in the same dtype, with no tensor in common.

    Raises:
        TypeError: ``layer`` is of another class.
        ValueError: no torch.nn layer computes the same; the message says why.
    """
    if not isinstance(layer, RecurrentParameters):
        raise TypeError(f"layer must be a bnrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    reason = why_not(layer)
    if reason is not None:
        raise ValueError(f"layer: no torch.nn layer computes the same: {reason}")
    weight = layer.weight_ih_l0
    options = {name: getattr(layer, name) for name in layer.torch_options}
    create: Any = layer.torch_class
    folded = create(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bias=True,
        batch_first=layer.batch_first,
        dropout=layer.dropout,
        bidirectional=layer.bidirectional,
        device=weight.device,
        dtype=weight.dtype,
        **options,
    )
    with torch.no_grad():
        for suffix in layer._all_suffixes:
            for name, value in _weights(layer, suffix).items():
                getattr(folded, name + suffix).copy_(value)
    return folded.eval()


def why_not(layer: RecurrentParameters) -> str | None:
    """Why no torch.nn layer computes the same in evaluation; None where one does."""
    if layer.training or any(site.takes_batch_statistics for site in layer._all_sites):
        return "it takes its batch's statistics; call eval() first"
    if any(layer._zoneout):
        return "zoneout mixes the old state into the new one"
    for suffix in layer._all_suffixes:
        for name, site in layer._sites(suffix).items():
            if isinstance(site.spec, LayerNorm):
                return f"the site {name!r} is layer-normalized, by the statistics of each row"
            if name == "cell" and isinstance(site.spec, Shift) and not bool(site.beta.any()):  # pyright: ignore
                continue
            if name == "cell":
                return "the site 'cell' is normalized between the cell and the output's tanh"
            if isinstance(site.spec, BatchNorm) and site.rows_in_use > 1:
                return f"the site {name!r} has statistics of its own for each of {site.rows_in_use} time steps"
    return None


def _weights(layer: RecurrentParameters, suffix: str) -> dict[str, Tensor]:
    """The weights of one layer and direction by torch's names, and two biases."""
    sites = layer._sites(suffix)
    weights = {name: layer._parameter(name, suffix) for name in ("weight_ih", "weight_hh", "weight_hr")}
    bias, bias_hn = layer._biases(suffix)
    width = len(layer.weight_ih_l0) if bias is None else len(bias)
    input_bias = layer.weight_ih_l0.new_zeros(width) if bias is None else bias.clone()
    hidden_bias = torch.zeros_like(input_bias)
    if bias_hn is not None:
        hidden_bias[-len(bias_hn) :] = bias_hn
    summed_scale, summed_shift = affine(sites.get("summed"))
    for weight, name, offset in (("weight_ih", "input", input_bias), ("weight_hh", "recurrent", hidden_bias)):
        scale, shift = affine(sites.get(name))
        if summed_scale is not None:
            scale, shift = summed_scale, None
        own = weights[weight]
        assert own is not None
        weights[weight] = own if scale is None else own * scale[0].unsqueeze(1)
        if shift is not None:
            offset += shift[0]
    if summed_scale is not None and summed_shift is not None:
        hidden_bias *= summed_scale[0]
        input_bias += summed_shift[0]
    found = {name: value.detach() for name, value in weights.items() if value is not None}
    return {**found, "bias_ih": input_bias.detach(), "bias_hh": hidden_bias.detach()}
