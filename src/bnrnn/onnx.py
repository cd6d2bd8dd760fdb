"""Layers in evaluation as ONNX programs: a scan over time with the population statistics as its constants.

Needs the extra ``bnrnn[onnx]``. What is written opens in any runtime of ONNX's operator set 17, without bnrnn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from bnrnn.nn.affine import affine
from bnrnn.nn.folding import fold, why_not
from bnrnn.nn.norm import LayerNorm, Normalization
from bnrnn.nn.parameters import RecurrentParameters

__all__ = ["export", "export_step"]

OPSET = 17
IR_VERSION = 8
_TYPES = {torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE}
_STATES = ("h", "c")


def export(
    layer: RecurrentParameters,
    file: str | Path | None = None,
    *,
    lengths: bool = False,
    tokens: bool = False,
    start_step: bool = False,
    foldable: bool = True,
) -> onnx.ModelProto:
    r"""Write a layer in ``eval()`` as an ONNX model with free batch and time.

    A normalized layer becomes one ``Scan`` over time for each layer and direction. Statistics of each time step are
    constants of the model, gathered by the step, and the last row serves beyond them. A layer that :func:`bnrnn.fold`
    takes becomes ONNX's own ``LSTM``, ``GRU`` or ``RNN``.

    Args:
        layer: a :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN` of float32 or float64 parameters.
        file: where to write the model; None not to.
        lengths: whether the model has the input ``lengths``: padding then has no part in anything, outputs beyond a
            sequence's end are 0 and final states are those at each sequence's own end.
        tokens: whether the input is integers that stand for one-hot rows.
        start_step: whether the model has the input ``start_step``, for chunks of a longer sequence.
        foldable: whether a layer that can be folded becomes ONNX's own operator.

    Inputs and outputs of the model:
        input: ``(T, B, I)``, ``(B, T, I)`` with ``batch_first``, int64 without the last dimension with ``tokens``.
        h_0, c_0: ``(layers * D, B, R)`` and, of an LSTM, ``(layers * D, B, H)``.
        lengths: int64 ``(B,)``, from 1 to T.
        start_step: int64 scalar.
        output, h_n, c_n: as the layer returns them.

    Returns:
        The model, checked.

    Raises:
        TypeError: ``layer`` is of another class or dtype.
        ValueError: the layer takes batch statistics; ``start_step`` of a bidirectional layer.
        OSError: the file cannot be written.
    """
    _check(layer)
    if start_step and layer.bidirectional:
        raise ValueError("start_step: a bidirectional layer has no earlier chunk to go on from")
    graph = _Graph(_TYPES[layer.weight_ih_l0.dtype])
    order = ("B", "T") if layer.batch_first else ("T", "B")
    x = graph.input("input", order if tokens else (*order, layer.input_size), tokens)
    states = _state_inputs(graph, layer)
    own_lengths = graph.input("lengths", ("B",), True) if lengths else None
    start = graph.input("start_step", (), True) if start_step else None
    if layer.batch_first:
        x = graph.add("Transpose", x, perm=[1, 0] if tokens else [1, 0, 2])
    own_operator = foldable and not layer.proj_size and why_not(layer) is None
    if own_operator:
        output, finals = _operators(graph, layer, x, states, own_lengths, tokens)
    else:
        output, finals = _scans(graph, layer, x, states, own_lengths, start, tokens)
    if layer.batch_first:
        output = graph.add("Transpose", output, perm=[1, 0, 2])
    width = layer._output_size * layer._directions
    graph.output("output", output, (*order, width))
    _state_outputs(graph, layer, finals)
    return _model(graph, type(layer).__name__, file)


def export_step(layer: RecurrentParameters, file: str | Path | None = None, *, tokens: bool = False) -> onnx.ModelProto:
    """Write one time step of a layer in ``eval()`` as an ONNX model, as :meth:`bnrnn.LSTM.stream` computes it.

    Args:
        layer, file, tokens: as in :func:`export`; the layer reads in one direction.

    Inputs and outputs of the model:
        input: ``(B, I)``, or int64 ``(B,)`` with ``tokens``.
        h_0, c_0: the state, ``(layers, B, R)`` and, of an LSTM, ``(layers, B, H)``.
        step: int64 scalar, from 0: which step's statistics serve.
        output: ``(B, R)``.
        h_n, c_n: the new state.

    Raises:
        TypeError, ValueError, OSError: as in :func:`export`; ``layer`` is bidirectional.
    """
    _check(layer)
    if layer.bidirectional:
        raise ValueError("layer: a bidirectional layer reads sequences from both ends and has no single step")
    graph = _Graph(_TYPES[layer.weight_ih_l0.dtype])
    x = graph.input("input", ("B",) if tokens else ("B", layer.input_size), tokens)
    states = _state_inputs(graph, layer)
    step = graph.input("step", (), True)
    axis = graph.constant(np.array([0]))
    finals = []
    for index in range(layer.num_layers):
        recurrence = _Recurrence(layer, f"_l{index}")
        given = recurrence.gathered(graph, graph.add("Unsqueeze", step, axis))
        given = {name: graph.add("Squeeze", value, axis) for name, value in given.items()}
        own = [graph.add("Gather", state, graph.constant(np.array(index)), axis=0) for state in states]
        wx = recurrence.input_product(graph, x, tokens and index == 0, given)
        new = recurrence.step(graph, wx, own, given)
        finals.append(new)
        x = new[0]
    graph.output("output", x, ("B", layer._output_size))
    _state_outputs(graph, layer, finals)
    return _model(graph, f"{type(layer).__name__} step", file)


def _check(layer: Any) -> None:
    if not isinstance(layer, RecurrentParameters):
        raise TypeError(f"layer must be a bnrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    if layer.training or any(site.takes_batch_statistics for site in layer._all_sites):
        raise ValueError("layer: a program has population statistics, and this layer takes its batch's; call eval()")
    if layer.weight_ih_l0.dtype not in _TYPES:
        raise TypeError(f"layer must have float32 or float64 parameters, got {layer.weight_ih_l0.dtype}")


def _model(graph: _Graph, name: str, file: str | Path | None) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, graph.inputs, graph.outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="bnrnn",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    if file is not None:
        onnx.save(model, file)
    return model


@dataclass
class _Graph:
    """Nodes under way, and the names of their values. A scan's body is one inside another, with its own names.

    Args:
        dtype: ONNX's number of the floating-point type.
        prefix: before every name.
    """

    dtype: int
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def input(self, name: str, shape: tuple[Any, ...], integer: bool = False) -> str:
        kind = TensorProto.INT64 if integer else self.dtype
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: tuple[Any, ...]) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, self.dtype, list(shape)))

    def constant(self, value: np.ndarray | Tensor) -> str:
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        name = self.name()
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, helper.tensor_dtype_to_np_dtype(self.dtype)))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names


def _state_inputs(graph: _Graph, layer: RecurrentParameters) -> list[str]:
    count = layer.num_layers * layer._directions
    return [
        graph.input(f"{name}_0", (count, "B", size)) for name, size in zip(_STATES, layer._state_sizes, strict=False)
    ]


def _state_outputs(graph: _Graph, layer: RecurrentParameters, finals: list[list[str]]) -> None:
    """The final states ``(layers * D, B, size)`` of the states of each layer and direction, ``(B, size)``."""
    axis = graph.constant(np.array([0]))
    for name, size, parts in zip(_STATES, layer._state_sizes, zip(*finals, strict=True), strict=False):
        whole = [graph.add("Unsqueeze", part, axis) for part in parts]
        graph.output(f"{name}_n", graph.add("Concat", *whole, axis=0), (len(finals), "B", size))


def _scans(
    graph: _Graph,
    layer: RecurrentParameters,
    x: str,
    states: list[str],
    lengths: str | None,
    start: str | None,
    tokens: bool,
) -> tuple[str, list[list[str]]]:
    zero, one, first = graph.constant(np.array(0)), graph.constant(np.array(1)), graph.constant(np.array([0]))
    shape = graph.add("Shape", x)
    steps = graph.add("Gather", shape, zero, axis=0)
    moments = graph.add("Range", zero, steps, one)
    at = moments if start is None else graph.add("Add", moments, start)
    if lengths is None and layer.bidirectional:
        batch = graph.add("Gather", shape, graph.constant(np.array([1])), axis=0)
        whole = graph.add("Expand", graph.add("Unsqueeze", steps, first), batch)
    else:
        whole = lengths or ""
    finals: list[list[str]] = []
    for index in range(layer.num_layers):
        outputs = []
        for reverse, suffix in enumerate(layer._suffixes(index)):
            recurrence = _Recurrence(layer, suffix)
            own = [graph.add("Gather", s, graph.constant(np.array(len(finals))), axis=0) for s in states]
            read = graph.add("ReverseSequence", x, whole, time_axis=0, batch_axis=1) if reverse else x
            given = recurrence.gathered(graph, at)
            wx = recurrence.input_product(graph, read, tokens and index == 0, given, steps=True)
            output, final = recurrence.scan(graph, wx, own, given, moments, lengths)
            outputs.append(
                graph.add("ReverseSequence", output, whole, time_axis=0, batch_axis=1) if reverse else output
            )
            finals.append(final)
        x = graph.add("Concat", *outputs, axis=2) if len(outputs) > 1 else outputs[0]
    return x, finals


class _Recurrence:
    """One layer in one direction, node by node beside the reference's equations."""

    def __init__(self, layer: RecurrentParameters, suffix: str) -> None:
        self.cell, self.units, self.zoneout = layer._cell, layer.hidden_size, layer._zoneout
        self.sites: dict[str, Normalization] = layer._sites(suffix)
        self.weight_ih, self.weight_hh, self.weight_hr = (
            layer._parameter(name, suffix) for name in ("weight_ih", "weight_hh", "weight_hr")
        )
        self.bias, self.bias_hn = layer._biases(suffix)
        self.sizes = tuple(gates * self.units for gates in self.cell.groups)

    def gathered(self, graph: _Graph, at: str) -> dict[str, str]:
        """Scales and shifts of the time steps ``at``, ``(T, n)``, by site and kind."""
        found = {}
        for site, norm in self.sites.items():
            for kind, table in zip(("scale", "shift"), affine(norm), strict=True):
                if table is not None:
                    row = graph.add("Min", at, graph.constant(np.array(len(table) - 1)))
                    found[f"{site} {kind}"] = graph.add("Gather", graph.constant(table), row, axis=0)
        return found

    def input_product(self, graph: _Graph, x: str, tokens: bool, given: dict[str, str], *, steps: bool = False) -> str:
        """N_x(W_ih x), of all steps at once or of one."""
        assert self.weight_ih is not None
        transposed = graph.constant(self.weight_ih.t())
        wx = graph.add("Gather", transposed, x, axis=0) if tokens else graph.add("MatMul", x, transposed)
        own = given
        if steps:  # (T, n) beside (T, B, n)
            axis = graph.constant(np.array([1]))
            own = {k: graph.add("Unsqueeze", v, axis) for k, v in given.items() if k.startswith("input ")}
        return self._normalize(graph, "input", wx, own, 0, sum(self.sizes))

    def _normalize(self, graph: _Graph, site: str, x: str, given: dict[str, str], start: int, size: int) -> str:
        """A site on the features from ``start`` on, where x has so many of them."""
        norm = self.sites.get(site)
        if norm is None:
            return x
        if isinstance(norm.spec, LayerNorm):
            return self._layer_norm(graph, norm, x, start, size, site)
        for operator, kind in (("Mul", "scale"), ("Add", "shift")):
            value = given.get(f"{site} {kind}")
            if value is not None:
                whole = self.units if site == "cell" else sum(self.sizes)
                x = graph.add(operator, x, self._slice(graph, value, start, size, whole))
        return x

    def _layer_norm(self, graph: _Graph, norm: Normalization, x: str, start: int, size: int, site: str) -> str:
        """Each group of gates by its own row statistics."""
        assert norm.gamma is not None
        groups = (size,) if site == "cell" or size < sum(self.sizes) else self.sizes
        parts, at = [], start
        for group in groups:
            part = self._slice(graph, x, at - start, group, size)
            gamma = graph.constant(norm.gamma[at : at + group])
            beta = norm.gamma.new_zeros(group) if norm.beta is None else norm.beta[at : at + group]
            assert isinstance(norm.spec, LayerNorm)
            parts.append(
                graph.add(
                    "LayerNormalization", part, gamma, graph.constant(beta), axis=-1, epsilon=float(norm.spec.eps)
                )
            )
            at += group
        return graph.add("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]

    @staticmethod
    def _slice(graph: _Graph, value: str, start: int, size: int, whole: int) -> str:
        """Features of the last dimension."""
        if size == whole:
            return value
        ends = [graph.constant(np.array([place])) for place in (start, start + size, -1)]
        return graph.add("Slice", value, *ends)

    def _plus(self, graph: _Graph, value: str, offset: Tensor | None) -> str:
        return value if offset is None else graph.add("Add", value, graph.constant(offset))

    def step(self, graph: _Graph, wx: str, states: list[str], given: dict[str, str]) -> list[str]:
        """The new states from the normalized product of the input, the states and the step's scales and shifts."""
        assert self.weight_hh is not None
        a = graph.add("MatMul", states[0], graph.constant(self.weight_hh.t()))
        if self.cell.has_reset:
            new = [self._gru(graph, wx, a, states[0], given)]
        else:
            a = self._normalize(graph, "recurrent", a, given, 0, sum(self.sizes))
            z = self._normalize(graph, "summed", graph.add("Add", a, wx), given, 0, sum(self.sizes))
            z = self._plus(graph, z, self.bias)
            if self.cell.has_cell:
                new = self._lstm(graph, z, states[1], given)
            else:
                new = [graph.add("Tanh" if self.cell.name == "tanh" else "Relu", z)]
        return [
            self._keep(graph, probability, old, value)
            for probability, old, value in zip(self.zoneout, states, new, strict=True)
        ]

    def _lstm(self, graph: _Graph, z: str, c: str, given: dict[str, str]) -> list[str]:
        i, f, g, o = graph.several("Split", 4, z, axis=-1)
        i, f, o = (graph.add("Sigmoid", gate) for gate in (i, f, o))
        c = graph.add("Add", graph.add("Mul", f, c), graph.add("Mul", i, graph.add("Tanh", g)))
        h = graph.add("Mul", o, graph.add("Tanh", self._normalize(graph, "cell", c, given, 0, self.units)))
        if self.weight_hr is not None:
            h = graph.add("MatMul", h, graph.constant(self.weight_hr.t()))
        return [h, c]

    def _gru(self, graph: _Graph, wx: str, a: str, h: str, given: dict[str, str]) -> str:
        gates, candidate = self.sizes
        cut = graph.constant(np.array(self.sizes))
        (b_rz, b_n), (a_rz, a_n) = (graph.several("Split", 2, value, cut, axis=-1) for value in (wx, a))
        bias_rz, bias_n = (None, None) if self.bias is None else self.bias.split(self.sizes)
        a_rz = self._normalize(graph, "recurrent", a_rz, given, 0, gates)
        rz = self._normalize(graph, "summed", graph.add("Add", a_rz, b_rz), given, 0, gates)
        r, z = graph.several("Split", 2, graph.add("Sigmoid", self._plus(graph, rz, bias_rz)), axis=-1)
        inner = self._plus(graph, self._normalize(graph, "recurrent", a_n, given, gates, candidate), self.bias_hn)
        n = graph.add("Add", b_n, graph.add("Mul", r, inner))
        n = graph.add("Tanh", self._plus(graph, self._normalize(graph, "summed", n, given, gates, candidate), bias_n))
        return graph.add("Add", n, graph.add("Mul", z, graph.add("Sub", h, n)))

    @staticmethod
    def _keep(graph: _Graph, probability: float, old: str, new: str) -> str:
        """Zoneout's expectation."""
        if not probability:
            return new
        return graph.add("Add", new, graph.add("Mul", graph.scalar(probability), graph.add("Sub", old, new)))

    def scan(
        self, graph: _Graph, wx: str, states: list[str], given: dict[str, str], moments: str, lengths: str | None
    ) -> tuple[str, list[str]]:
        """Output ``(T, B, R)`` and final states from the normalized products of the input ``(T, B, gates * H)``."""
        body = _Graph(graph.dtype, f"{graph.name()}/")
        held = [body.input(f"{body.prefix}{name}", ("B", "n")) for name in _STATES[: len(states)]]
        moving = {k: v for k, v in given.items() if not k.startswith("input ")}
        own_wx = body.input(f"{body.prefix}wx", ("B", "n"))
        own = {name: body.input(f"{body.prefix}{name}", ("n",)) for name in moving}
        scanned = [wx, *moving.values()]
        new = self.step(body, own_wx, held, own)
        output = new[0]
        if lengths is not None:  # read from outside: the same at each step
            time = body.input(f"{body.prefix}t", (), True)
            scanned.append(moments)
            valid = body.add("Unsqueeze", body.add("Less", time, lengths), body.constant(np.array([1])))
            output = body.add("Where", valid, output, body.scalar(0.0))
            new = [body.add("Where", valid, value, old) for value, old in zip(new, held, strict=True)]
        for name, value in zip((*_STATES[: len(states)], "output"), (*new, output), strict=True):
            body.output(f"{body.prefix}{name}'", value, ("B", "n"))
        inner = helper.make_graph(body.nodes, f"{body.prefix}step", body.inputs, body.outputs, body.initializers)
        *finals, outputs = graph.several(
            "Scan", len(states) + 1, *states, *scanned, body=inner, num_scan_inputs=len(scanned)
        )
        return outputs, finals


_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "tanh": (0,), "relu": (0,)}
"""Gates in ONNX's order: i, o, f, c of the LSTM, z, r, h of the GRU."""
_OPERATOR = {"lstm": "LSTM", "gru": "GRU", "tanh": "RNN", "relu": "RNN"}


def _operators(
    graph: _Graph, layer: RecurrentParameters, x: str, states: list[str], lengths: str | None, tokens: bool
) -> tuple[str, list[list[str]]]:
    """ONNX's own operator for each layer, with statistics folded into the weights."""
    folded, name, directions = fold(layer), layer._cell.name, layer._directions
    zero = graph.constant(np.array([0]))
    if tokens:  # the operator has no look-up
        depth = graph.constant(np.array([layer.input_size]))
        x = graph.add("OneHot", x, depth, graph.constant(np.array([0, 1], layer.weight_ih_l0.detach().numpy().dtype)))
    if lengths is not None:
        lengths = graph.add("Cast", lengths, to=TensorProto.INT32)
    finals: list[list[str]] = []
    for index in range(layer.num_layers):
        suffixes = layer._suffixes(index)

        def stacked(*names: str, suffixes: list[str] = suffixes) -> str:
            parts = []
            for suffix in suffixes:
                tensors = [_reordered(getattr(folded, n + suffix), _ORDER[name]) for n in names]
                parts.append(torch.cat(tensors))
            return graph.constant(torch.stack(parts))

        ends = [graph.constant(np.array([place])) for place in (len(finals), len(finals) + directions)]
        own = [graph.add("Slice", state, *ends, zero) for state in states]
        attributes: dict[str, Any] = {"hidden_size": layer.hidden_size}
        if directions == 2:
            attributes["direction"] = "bidirectional"
        if name == "gru":
            attributes["linear_before_reset"] = 1
        if name == "relu":
            attributes["activations"] = ["Relu"] * directions
        weights = [stacked("weight_ih"), stacked("weight_hh"), stacked("bias_ih", "bias_hh")]
        output, *final = graph.several(_OPERATOR[name], 1 + len(states), x, *weights, lengths or "", *own, **attributes)
        output = graph.add("Transpose", output, perm=[0, 2, 1, 3])  # (T, B, D, H)
        x = graph.add("Reshape", output, graph.constant(np.array([0, 0, directions * layer.hidden_size])))
        for direction in range(directions):
            place = graph.constant(np.array(direction))
            finals.append([graph.add("Gather", state, place, axis=0) for state in final])
    return x, finals


def _reordered(weight: Tensor, order: tuple[int, ...]) -> Tensor:
    """Rows of gates in ONNX's order."""
    blocks = weight.detach().chunk(len(order))
    return torch.cat([blocks[place] for place in order])
