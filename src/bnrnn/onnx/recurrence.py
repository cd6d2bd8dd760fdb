"""One layer in one direction with known statistics, node by node beside the reference's equations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from bnrnn.onnx.graph import Graph
from bnrnn.ops.cells import Cell

STATES = ("h", "c")


@dataclass(frozen=True)
class Site:
    """A normalization by the names of its values; None where it has none.

    Args:
        scale, shift: what known statistics make of it: ``(T, n)`` or ``(n,)``.
        gamma, beta: a layer normalization's, ``(n,)``.
        eps: a layer normalization's.
    """

    scale: str | None = None
    shift: str | None = None
    gamma: str | None = None
    beta: str | None = None
    eps: float | None = None

    def apply(self, graph: Graph, x: str) -> str:
        if self.eps is not None:
            gains = [value for value in (self.gamma, self.beta) if value is not None]
            return graph.add("LayerNormalization", x, *gains, axis=-1, epsilon=self.eps)
        for operator, value in (("Mul", self.scale), ("Add", self.shift)):
            if value is not None:
                x = graph.add(operator, x, value)
        return x

    @property
    def moving(self) -> dict[str, str]:
        """The values that each step has its own of."""
        return {name: value for name in ("scale", "shift") if (value := getattr(self, name)) is not None}

    def split(self, graph: Graph, sizes: tuple[int, ...]) -> list[Site]:
        """The sites of successive features."""
        parts: list[Site] = [self] * len(sizes)
        for name in ("scale", "shift", "gamma", "beta"):
            if (value := getattr(self, name)) is not None:
                pieces = graph.split(value, sizes)
                parts = [replace(part, **{name: piece}) for part, piece in zip(parts, pieces, strict=True)]
        return parts


Sites = dict[str, list[Site]]
"""By name, the parts of a site for each group of gates."""


class Recurrence:
    """The nodes of a cell, in a graph that its weights are in.

    Args:
        graph: where the weights are.
        cell: the cell's facts.
        units: H.
        weight_ih, weight_hh, weight_hr, bias, bias_hn: names of the weights, as the reference takes them.
        zoneout: names of the probabilities of keeping the old h and c.
    """

    def __init__(
        self,
        graph: Graph,
        cell: Cell,
        units: int,
        weight_ih: str,
        weight_hh: str,
        weight_hr: str | None = None,
        bias: str | None = None,
        bias_hn: str | None = None,
        zoneout: tuple[str | None, ...] = (None, None),
    ) -> None:
        self.cell, self.units, self.zoneout = cell, units, zoneout
        self.weight_ih, self.weight_hh, self.bias, self.bias_hn = weight_ih, weight_hh, bias, bias_hn
        self.sizes = tuple(gates * units for gates in cell.groups)
        self._graph = graph
        self._transposed: dict[str, str] = {}
        self._weight_hr = weight_hr
        self._biases = [None] * len(self.sizes) if bias is None else graph.split(bias, self.sizes)

    def _transpose(self, weight: str) -> str:
        if weight not in self._transposed:
            self._transposed[weight] = self._graph.add("Transpose", weight, perm=[1, 0])
        return self._transposed[weight]

    def parts(self, graph: Graph, sites: dict[str, Site]) -> Sites:
        """The sites inside of the recurrence, for :meth:`step` and :meth:`scan`."""
        inside = {name: site for name, site in sites.items() if name != "input"}
        return {name: [site] if name == "cell" else site.split(graph, self.sizes) for name, site in inside.items()}

    def input_product(self, graph: Graph, x: str, tokens: bool, site: Site | None) -> str:
        """N_x(W_ih x), of all steps at once or of one; the site's statistics are to fit by broadcasting."""
        weight = self._transpose(self.weight_ih)
        wx = graph.add("Gather", weight, x, axis=0) if tokens else graph.add("MatMul", x, weight)
        if site is None:
            return wx
        if site.eps is None or len(self.sizes) == 1:
            return site.apply(graph, wx)
        groups = zip(site.split(graph, self.sizes), graph.split(wx, self.sizes), strict=True)
        return graph.add("Concat", *(part.apply(graph, value) for part, value in groups), axis=-1)

    def step(self, graph: Graph, wx: str, states: list[str], sites: Sites) -> list[str]:
        """The new states from the normalized product of the input, the states and the step's sites."""
        a = graph.add("MatMul", states[0], self._transpose(self.weight_hh))
        if self.cell.has_reset:
            new = [self._gru(graph, wx, a, states[0], sites)]
        else:
            z = _normalized(graph, sites, "recurrent", 0, a)
            z = _normalized(graph, sites, "summed", 0, graph.add("Add", z, wx))
            z = _plus(graph, z, self._biases[0])
            if self.cell.has_cell:
                new = self._lstm(graph, z, states[1], sites)
            else:
                new = [graph.add("Tanh" if self.cell.name == "tanh" else "Relu", z)]
        return [
            value if keep is None else graph.add("Add", value, graph.add("Mul", keep, graph.add("Sub", old, value)))
            for keep, old, value in zip(self.zoneout, states, new, strict=False)
        ]

    def _lstm(self, graph: Graph, z: str, c: str, sites: Sites) -> list[str]:
        i, f, g, o = graph.split(z, [self.units] * 4)
        i, f, o = (graph.add("Sigmoid", gate) for gate in (i, f, o))
        c = graph.add("Add", graph.add("Mul", f, c), graph.add("Mul", i, graph.add("Tanh", g)))
        h = graph.add("Mul", o, graph.add("Tanh", _normalized(graph, sites, "cell", 0, c)))
        if self._weight_hr is not None:
            h = graph.add("MatMul", h, self._transpose(self._weight_hr))
        return [h, c]

    def _gru(self, graph: Graph, wx: str, a: str, h: str, sites: Sites) -> str:
        (b_rz, b_n), (a_rz, a_n) = (graph.split(value, self.sizes) for value in (wx, a))
        rz = graph.add("Add", _normalized(graph, sites, "recurrent", 0, a_rz), b_rz)
        rz = _plus(graph, _normalized(graph, sites, "summed", 0, rz), self._biases[0])
        r, z = graph.split(graph.add("Sigmoid", rz), [self.units] * 2)
        inner = _plus(graph, _normalized(graph, sites, "recurrent", 1, a_n), self.bias_hn)
        n = graph.add("Add", b_n, graph.add("Mul", r, inner))
        n = graph.add("Tanh", _plus(graph, _normalized(graph, sites, "summed", 1, n), self._biases[1]))
        return graph.add("Add", n, graph.add("Mul", z, graph.add("Sub", h, n)))

    def scan(self, wx: str, states: list[str], sites: Sites, lengths: str | None) -> tuple[str, list[str]]:
        """Output ``(T, B, R)`` and final states ``(B, ...)``.

        Args:
            wx: normalized products of the input, ``(T, B, gates * H)``.
            states: ``(B, ...)``.
            sites: of all steps: scales and shifts ``(T, n)``.
            lengths: of the sequences, int64 ``(B,)``.
        """
        graph = self._graph
        for weight in (self.weight_hh, self._weight_hr):  # here, and not in the body
            if weight is not None:
                self._transpose(weight)
        body = Graph(graph.dtype, f"{graph.name()}/")
        held = [body.input(f"{body.prefix}{name}", ("B", "n")) for name in STATES[: len(states)]]
        own_wx = body.input(f"{body.prefix}wx", ("B", "n"))
        scanned, own = [wx], {}
        for name, parts in sites.items():
            own[name] = []
            for place, part in enumerate(parts):
                values = {kind: body.input(f"{body.prefix}{name}{place}{kind}", ("n",)) for kind in part.moving}
                scanned += part.moving.values()
                own[name].append(replace(part, **values))
        new = self.step(body, own_wx, held, own)
        output = new[0]
        if lengths is not None:  # read from outside: the same at each step
            time = body.input(f"{body.prefix}t", (), True)
            scanned.append(graph.add("Range", graph.integer(0), graph.size(wx, 0), graph.integer(1)))
            valid = body.add("Unsqueeze", body.add("Less", time, lengths), body.integers(1))
            output = body.add("Where", valid, output, body.scalar(0.0))
            new = [body.add("Where", valid, value, old) for value, old in zip(new, held, strict=True)]
        for name, value in zip((*STATES[: len(states)], "output"), (*new, output), strict=True):
            body.output(f"{body.prefix}{name}'", value, ("B", "n"))
        inner = helper.make_graph(body.nodes, f"{body.prefix}step", body.inputs, body.outputs, body.initializers)
        *finals, outputs = graph.several(
            "Scan", len(states) + 1, *states, *scanned, body=inner, num_scan_inputs=len(scanned)
        )
        return outputs, finals

    def operator(self, x: str, states: list[str], lengths: str | None) -> tuple[str, list[str]]:
        """As :meth:`scan`, by ONNX's own operator, of a layer without sites: x is ``(T, B, I)``."""
        graph, name = self._graph, self.cell.name
        first = graph.integers(0)
        hidden = graph.constant(_zeros(graph, self.cell.gates * self.units))
        if self.bias_hn is not None:
            before = graph.constant(_zeros(graph, (self.cell.gates - 1) * self.units))
            hidden = graph.add("Concat", before, self.bias_hn, axis=0)
        bias = graph.constant(_zeros(graph, self.cell.gates * self.units)) if self.bias is None else self.bias
        both = graph.add("Concat", self._reordered(bias), self._reordered(hidden), axis=0)
        weights = [self._reordered(weight) for weight in (self.weight_ih, self.weight_hh)]
        given = [graph.add("Unsqueeze", value, first) for value in (*weights, both)]
        own = [graph.add("Unsqueeze", state, first) for state in states]
        attributes: dict[str, Any] = {"hidden_size": self.units}
        if name == "gru":
            attributes["linear_before_reset"] = 1
        if name == "relu":
            attributes["activations"] = ["Relu"]
        counts = "" if lengths is None else graph.add("Cast", lengths, to=TensorProto.INT32)
        output, *finals = graph.several(_OPERATOR[name], 1 + len(states), x, *given, counts, *own, **attributes)
        direction = graph.integers(1)
        return graph.add("Squeeze", output, direction), [graph.add("Squeeze", state, first) for state in finals]

    def _reordered(self, weight: str) -> str:
        """Rows of gates in ONNX's order."""
        order = _ORDER[self.cell.name]
        if len(order) == 1:
            return weight
        blocks = self._graph.split(weight, [self.units] * len(order), axis=0)
        return self._graph.add("Concat", *(blocks[place] for place in order), axis=0)


_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "tanh": (0,), "relu": (0,)}
"""Gates in ONNX's order: i, o, f, c of the LSTM, z, r, h of the GRU."""
_OPERATOR = {"lstm": "LSTM", "gru": "GRU", "tanh": "RNN", "relu": "RNN"}


def _zeros(graph: Graph, count: int) -> np.ndarray:
    return np.zeros(count, helper.tensor_dtype_to_np_dtype(graph.dtype))


def _normalized(graph: Graph, sites: Sites, name: str, group: int, x: str) -> str:
    return sites[name][group].apply(graph, x) if name in sites else x


def _plus(graph: Graph, value: str, offset: str | None) -> str:
    return value if offset is None else graph.add("Add", value, offset)
