"""A layer as an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bnrnn.nn.affine import affine
from bnrnn.nn.folding import fold, why_not
from bnrnn.nn.norm import LayerNorm
from bnrnn.nn.parameters import RecurrentParameters
from bnrnn.onnx.graph import TYPES, Graph, save
from bnrnn.onnx.recurrence import STATES, Recurrence, Site

OPSET = 17
IR_VERSION = 8


def export_layer(
    layer: RecurrentParameters, file: str | Path | None, lengths: bool, tokens: bool, start_step: bool, foldable: bool
) -> onnx.ModelProto:
    """A layer; see :func:`bnrnn.onnx.export`."""
    check(layer)
    if start_step and layer.bidirectional:
        raise ValueError("start_step: a bidirectional layer has no earlier chunk to go on from")
    graph = Graph(TYPES[layer.weight_ih_l0.dtype])
    order = ("B", "T") if layer.batch_first else ("T", "B")
    x = graph.input("input", order if tokens else (*order, layer.input_size), tokens)
    states = _state_inputs(graph, layer)
    own_lengths = graph.input("lengths", ("B",), True) if lengths else None
    start = graph.input("start_step", (), True) if start_step else None
    if layer.batch_first:
        x = graph.add("Transpose", x, perm=[1, 0] if tokens else [1, 0, 2])
    own_operator = foldable and not layer.proj_size and why_not(layer) is None
    if own_operator and tokens:  # the operator has no look-up
        ends = np.array([0, 1], layer.weight_ih_l0.detach().cpu().numpy().dtype)
        x, tokens = graph.add("OneHot", x, graph.integers(layer.input_size), graph.constant(ends)), False
    output, finals = _layers(graph, layer, x, states, own_lengths, start, tokens, own_operator)
    if layer.batch_first:
        output = graph.add("Transpose", output, perm=[1, 0, 2])
    width = layer._output_size * layer._directions
    graph.output("output", output, (*order, width))
    _state_outputs(graph, layer, finals)
    return _model(graph, type(layer).__name__, file)


def export_step(layer: RecurrentParameters, file: str | Path | None = None, *, tokens: bool = False) -> onnx.ModelProto:
    """Write one time step of a layer in ``eval()`` as an ONNX model, as :meth:`bnrnn.LSTM.stream` computes it.

    Args:
        layer: a unidirectional :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN`.
        file, tokens: as in :func:`export`.

    Inputs and outputs of the model:
        input: ``(B, I)``, or int64 ``(B,)`` with ``tokens``.
        h_0, c_0: the state, ``(layers, B, R)`` and, of an LSTM, ``(layers, B, H)``.
        step: int64 scalar, from 0: which step's statistics serve.
        output: ``(B, R)``.
        h_n, c_n: the new state.

    Raises:
        TypeError, ValueError, OSError: as in :func:`export`; ``layer`` is bidirectional.
    """
    check(layer)
    if layer.bidirectional:
        raise ValueError("layer: a bidirectional layer reads sequences from both ends and has no single step")
    graph = Graph(TYPES[layer.weight_ih_l0.dtype])
    x = graph.input("input", ("B",) if tokens else ("B", layer.input_size), tokens)
    states = _state_inputs(graph, layer)
    step = graph.input("step", (), True)
    finals = []
    for index in range(layer.num_layers):
        suffix = f"_l{index}"
        recurrence = _recurrence(graph, layer, suffix)
        sites = _sites(graph, layer, suffix, step)
        own = [graph.add("Gather", state, graph.integer(index), axis=0) for state in states]
        wx = recurrence.input_product(graph, x, tokens and index == 0, sites.get("input"))
        new = recurrence.step(graph, wx, own, recurrence.parts(graph, sites))
        finals.append(new)
        x = new[0]
    graph.output("output", x, ("B", layer._output_size))
    _state_outputs(graph, layer, finals)
    return _model(graph, f"{type(layer).__name__} step", file)


def check(layer: Any) -> None:
    """Refuse what is no layer, or none with statistics of its own.

    Raises:
        TypeError, ValueError: see :func:`bnrnn.onnx.export`.
    """
    if not isinstance(layer, RecurrentParameters):
        raise TypeError(f"layer must be a bnrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    if layer.training or any(site.takes_batch_statistics for site in layer._all_sites):
        raise ValueError("layer: a program has population statistics, and this layer takes its batch's; call eval()")
    if layer.weight_ih_l0.dtype not in TYPES:
        raise TypeError(f"layer must have float32 or float64 parameters, got {layer.weight_ih_l0.dtype}")


def _model(graph: Graph, name: str, file: str | Path | None) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, graph.inputs, graph.outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="bnrnn",
        ir_version=IR_VERSION,
    )
    return save(model, file)


def _state_inputs(graph: Graph, layer: RecurrentParameters) -> list[str]:
    count = layer.num_layers * layer._directions
    return [
        graph.input(f"{name}_0", (count, "B", size)) for name, size in zip(STATES, layer._state_sizes, strict=False)
    ]


def _state_outputs(graph: Graph, layer: RecurrentParameters, finals: list[list[str]]) -> None:
    """The final states ``(layers * D, B, size)`` of the states of each layer and direction, ``(B, size)``."""
    for name, size, parts in zip(STATES, layer._state_sizes, zip(*finals, strict=True), strict=False):
        whole = [graph.add("Unsqueeze", part, graph.integers(0)) for part in parts]
        graph.output(f"{name}_n", graph.add("Concat", *whole, axis=0), (len(finals), "B", size))


def _layers(
    graph: Graph,
    layer: RecurrentParameters,
    x: str,
    states: list[str],
    lengths: str | None,
    start: str | None,
    tokens: bool,
    own_operator: bool,
) -> tuple[str, list[list[str]]]:
    """Outputs of all layers and directions, by ONNX's own operator or by scans."""
    steps = graph.size(x, 0)
    at = graph.add("Range", graph.integer(0), steps, graph.integer(1))
    if start is not None:
        at = graph.add("Add", at, start)
    whole = lengths or ""
    if lengths is None and layer.bidirectional:
        batch = graph.add("Unsqueeze", graph.size(x, 1), graph.integers(0))
        whole = graph.add("Expand", graph.add("Unsqueeze", steps, graph.integers(0)), batch)
    folded = fold(layer) if own_operator else None
    finals: list[list[str]] = []
    for index in range(layer.num_layers):
        outputs = []
        for reverse, suffix in enumerate(layer._suffixes(index)):
            own = [graph.add("Gather", s, graph.integer(len(finals)), axis=0) for s in states]
            read = graph.add("ReverseSequence", x, whole, time_axis=0, batch_axis=1) if reverse else x
            if folded is not None:
                output, final = _folded(graph, layer, folded, suffix).operator(read, own, lengths)
            else:
                recurrence = _recurrence(graph, layer, suffix)
                sites = _sites(graph, layer, suffix, at)
                inputs = beside_rows(graph, sites.get("input"))
                wx = recurrence.input_product(graph, read, tokens and index == 0, inputs)
                output, final = recurrence.scan(wx, own, recurrence.parts(graph, sites), lengths)
            outputs.append(
                graph.add("ReverseSequence", output, whole, time_axis=0, batch_axis=1) if reverse else output
            )
            finals.append(final)
        x = graph.add("Concat", *outputs, axis=2) if len(outputs) > 1 else outputs[0]
    return x, finals


def beside_rows(graph: Graph, site: Site | None) -> Site | None:
    """A site's scales and shifts ``(T, n)`` as they stand beside ``(T, B, n)``."""
    if site is None:
        return None
    values = {kind: graph.add("Unsqueeze", value, graph.integers(1)) for kind, value in site.moving.items()}
    return Site(**{**vars(site), **values})


def _recurrence(graph: Graph, layer: RecurrentParameters, suffix: str) -> Recurrence:
    def constant(value: Any) -> Any:
        return None if value is None else graph.constant(value)

    weights = {name: constant(layer._parameter(name, suffix)) for name in ("weight_ih", "weight_hh", "weight_hr")}
    bias, bias_hn = map(constant, layer._biases(suffix))
    zoneout = tuple(graph.scalar(p) if p else None for p in layer._zoneout)
    return Recurrence(graph, layer._cell, layer.hidden_size, **weights, bias=bias, bias_hn=bias_hn, zoneout=zoneout)


def _folded(graph: Graph, layer: RecurrentParameters, folded: Any, suffix: str) -> Recurrence:
    """A torch.nn layer's weights; a GRU's candidate keeps its second bias, the others have the sum of both."""
    weight_ih, weight_hh, bias, hidden = (
        getattr(folded, name + suffix).detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    bias_hn = None
    if layer._cell.has_reset:
        inside = 2 * layer.hidden_size
        bias_hn, hidden = graph.constant(hidden[inside:]), hidden.clone()
        hidden[inside:] = 0
    given = [graph.constant(value) for value in (weight_ih, weight_hh, bias + hidden)]
    return Recurrence(graph, layer._cell, layer.hidden_size, *given[:2], bias=given[2], bias_hn=bias_hn)


def _sites(graph: Graph, layer: RecurrentParameters, suffix: str, at: str) -> dict[str, Site]:
    """The sites at the time steps ``at``: one, or ``(T,)``."""
    found = {}
    for name, norm in layer._sites(suffix).items():
        if isinstance(norm.spec, LayerNorm):
            assert norm.gamma is not None
            beta = None if norm.beta is None else graph.constant(norm.beta)
            found[name] = Site(gamma=graph.constant(norm.gamma), beta=beta, eps=float(norm.spec.eps))
            continue
        values = {}
        for kind, table in zip(("scale", "shift"), affine(norm), strict=True):
            if table is not None:
                row = graph.add("Min", at, graph.integer(len(table) - 1))
                values[kind] = graph.add("Gather", graph.constant(table), row, axis=0)
        found[name] = Site(**values)
    return found
