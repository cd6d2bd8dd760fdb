"""A model that holds layers as an ONNX model: torch's exporter, and a scan in the place of each recurrence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.onnx import ops as symbols

from bnrnn.nn.norm import Normalization
from bnrnn.nn.parameters import RecurrentParameters
from bnrnn.onnx.graph import TYPES, Graph, save
from bnrnn.onnx.layers import beside_rows, export_layer
from bnrnn.onnx.recurrence import Recurrence, Site
from bnrnn.ops import layout
from bnrnn.ops.cells import NUMBERED
from bnrnn.ops.sites import Sites

DOMAIN = "bnrnn"


def export(
    model: nn.Module,
    file: str | Path | None = None,
    args: tuple[Any, ...] | None = None,
    *,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    lengths: bool = False,
    tokens: bool = False,
    start_step: bool = False,
    foldable: bool = True,
) -> onnx.ModelProto:
    r"""Write a layer, or a model that holds layers, in ``eval()`` as an ONNX model.

    A normalized layer becomes one ``Scan`` over time for each layer and direction. Statistics of each time step are
    constants of the model, gathered by the step, and the last row serves beyond them. A layer that :func:`bnrnn.fold`
    takes becomes ONNX's own ``LSTM``, ``GRU`` or ``RNN``; within a model so does one without norm, or with
    ``"sequence"`` statistics at its input alone.

    A layer by itself needs no example. Any other model, and a layer with ``args``, is traced by
    :func:`torch.export.export` and translated by :func:`torch.onnx.export`.

    Args:
        model: a :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN`, or a module that calls some; with
            float32 or float64 parameters.
        file: where to write the model; None not to.
        args: example arguments of the model's call. Its layers take ``lengths``, no ``PackedSequence``.
        dynamic_shapes: which of their dimensions are free, as :func:`torch.export.export` takes it. Examples of a free
            dimension have 2 or more.
        input_names, output_names: names in the ONNX model; torch's where they are missing.
        lengths: of a layer, whether its model has the input ``lengths``: padding then has no part in anything, outputs
            beyond a sequence's end are 0 and final states are those at each sequence's own end.
        tokens: of a layer, whether the input is integers that stand for one-hot rows.
        start_step: of a layer, whether its model has the input ``start_step``, for chunks of a longer sequence.
        foldable: of a layer, whether one that can be folded becomes ONNX's own operator.

    Inputs and outputs of a layer's model:
        input: ``(T, B, I)``, ``(B, T, I)`` with ``batch_first``, int64 without the last dimension with ``tokens``.
        h_0, c_0: ``(layers * D, B, R)`` and, of an LSTM, ``(layers * D, B, H)``.
        lengths: int64 ``(B,)``, from 1 to T.
        start_step: int64 scalar.
        output, h_n, c_n: as the layer returns them.

    Returns:
        The model, checked. A layer's is of operator set 17, another's of that which torch's exporter writes.

    Raises:
        TypeError: ``model`` is no module or has another dtype; ``args`` holds a ``PackedSequence``.
        ValueError: the model takes batch statistics; an option does not belong to it; ``args`` is missing;
            ``start_step`` of a bidirectional layer.
        OSError: the file cannot be written.
        torch.export's own errors: the model's code cannot be traced.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    of_layer = {"lengths": lengths, "tokens": tokens, "start_step": start_step, "foldable": not foldable}
    of_trace = {"dynamic_shapes": dynamic_shapes, "input_names": input_names, "output_names": output_names}
    if args is None:
        if not isinstance(model, RecurrentParameters):
            raise ValueError(
                f"args: a {type(model).__name__} is traced, and needs example arguments of its call; a bnrnn.LSTM, GRU"
                " or RNN by itself needs none"
            )
        _refuse([name for name, value in of_trace.items() if value is not None], "belong to a model traced with args")
        return export_layer(model, file, lengths, tokens, start_step, foldable)
    _refuse([name for name, value in of_layer.items() if value], "belong to a layer by itself, without args")
    _check(model, args)
    with torch.no_grad(), _quiet():
        program = torch.export.export(model, args, dynamic_shapes=dynamic_shapes)
        program = program.run_decompositions(
            {torch.ops.bnrnn.recurrence.default: _mark, torch.ops.aten.sort.stable: _sort}
        )
        written: Any = torch.onnx.export(
            program, dynamo=True, input_names=input_names, output_names=output_names, verbose=False
        )
    found = written.model_proto
    _expand(found.graph, "recurrence")
    kept = [entry for entry in found.opset_import if entry.domain != DOMAIN]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    return save(found, file)


def _refuse(names: list[str], reason: str) -> None:
    if names:
        raise ValueError(f"{', '.join(names)}: {reason}")


def _check(model: nn.Module, args: tuple[Any, ...]) -> None:
    if model.training:
        raise ValueError("model: a program has population statistics, and this model is in training; call eval()")
    for name, module in model.named_modules():
        if isinstance(module, Normalization) and module.takes_batch_statistics:
            raise ValueError(f"model: a program has population statistics, and {name} takes its batch's; call eval()")
        if isinstance(module, RecurrentParameters) and module.weight_ih_l0.dtype not in TYPES:
            dtype = module.weight_ih_l0.dtype
            raise TypeError(f"model must have float32 or float64 parameters, {name or 'it'} has {dtype}")
    if any(isinstance(value, PackedSequence) for value in args):
        raise TypeError("args: a program takes no PackedSequence; give a padded tensor and the layer its lengths")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of packages that have no part in this, and of its own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec", FutureWarning)
            yield
    finally:
        logger.setLevel(before)


def _sort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:
    """ONNX has no sort but the largest first; of equal values the earlier comes first, as in a stable one."""
    return torch.topk(x, x.shape[dim], dim, descending)


def _mark(
    cell: int, x: Tensor, h0: Tensor, c0: Tensor | None, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None,
    bias_hn: Tensor | None, weight_hr: Tensor | None, sites: list[Tensor], numbers: list[int], eps: list[float],
    batch_sizes: Tensor | None, mask: Tensor | None, zoneout_h: Tensor | None, zoneout_c: Tensor | None,
    bfloat16: bool, keep: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """A node of our own domain in the place of the operator; torch's exporter passes it through."""
    if bfloat16 or weight_hh.dtype not in TYPES:
        raise TypeError("model must compute in float32 or float64, not under autocast")
    shapes = [(*x.shape[:2], h0.shape[1]), h0.shape, *([] if c0 is None else [c0.shape])]
    given = [x, h0, c0, weight_ih, weight_hh, weight_hr, bias, bias_hn, zoneout_h, zoneout_c, batch_sizes, *sites]
    facts: dict[str, Any] = {
        "cell": cell,
        "units": weight_hh.shape[0] // NUMBERED[cell].gates,
        "dtype": int(TYPES[weight_hh.dtype]),
        "tokens": int(not x.is_floating_point()),
        "numbers": numbers,
        "eps": eps,
    }
    results = symbols.symbolic_multi_out(
        f"{DOMAIN}::Recurrence", given, facts, dtypes=[weight_hh.dtype] * len(shapes), shapes=shapes, version=1
    )
    none = weight_hh.new_empty(0)
    return *results, *([weight_hh.new_empty(0, 0)] if c0 is None else []), none, none


def _expand(graph: Any, prefix: str) -> None:
    """Puts its nodes in the place of each marked one, in the graphs inside of nodes too."""
    nodes = []
    for place, node in enumerate(graph.node):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _expand(attribute.g, f"{prefix}/{place}")
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        facts = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        own = Graph(facts["dtype"], f"{prefix}/{place}/")
        results = _recurrence(own, facts, [name or None for name in node.input])
        own.nodes += [
            helper.make_node("Identity", [value], [name])
            for name, value in zip(node.output, results, strict=True)
            if name
        ]
        nodes += own.nodes
        graph.initializer.extend(own.initializers)
    del graph.node[:]
    graph.node.extend(nodes)


def _recurrence(graph: Graph, facts: dict[str, Any], given: list[str | None]) -> list[str]:
    """A marked recurrence: output and final states."""
    cell, units = NUMBERED[facts["cell"]], facts["units"]
    given += [None] * (11 - len(given))
    x, h0, c0, weight_ih, weight_hh, weight_hr, bias, bias_hn, zoneout_h, zoneout_c, batch_sizes, *tensors = given
    assert x is not None
    assert weight_ih is not None
    assert weight_hh is not None
    steps = graph.add("Unsqueeze", graph.size(x, 0), graph.integers(0))
    sizes = dict(zip(Sites._fields, layout.sizes(cell, units), strict=True))
    sites: dict[str, Site] = {}
    left = iter(tensors)
    kinds = dict(zip(Sites._fields, layout.layouts(facts["numbers"]), strict=True))
    for (name, kind), eps in zip(kinds.items(), facts["eps"], strict=True):
        if kind.kind != layout.KindNumber.NONE:
            gamma = next(left) if kind.given & layout.Given.GAMMA else None
            beta = next(left) if kind.given & layout.Given.BETA else None
            if kind.is_layer:
                sites[name] = Site(gamma=gamma, beta=beta, eps=eps)
            elif kind.kind == layout.KindNumber.SHIFT:
                sites[name] = Site(shift=_rows(graph, beta, steps, sizes[name]))
            else:
                mean, var = next(left), next(left)
                sites[name] = _affine(graph, gamma, beta, mean, var, eps)
    states = [state for state in (h0, c0) if state is not None]
    lengths = None if batch_sizes is None else _lengths(graph, x, batch_sizes)
    folds = [*sites] in ([], ["input"]) and kinds["input"].kind in (layout.KindNumber.NONE, layout.KindNumber.SEQUENCE)
    if folds and not (facts["tokens"] or weight_hr or zoneout_h or zoneout_c):
        if sites:
            weight_ih, bias = _folded(graph, sites["input"], weight_ih, bias)
        output, finals = Recurrence(graph, cell, units, weight_ih, weight_hh, None, bias, bias_hn).operator(
            x, states, lengths
        )
        return [output, *finals]
    zoneout = (zoneout_h, zoneout_c)
    recurrence = Recurrence(graph, cell, units, weight_ih, weight_hh, weight_hr, bias, bias_hn, zoneout)
    wx = recurrence.input_product(graph, x, bool(facts["tokens"]), beside_rows(graph, sites.get("input")))
    for name, kind in kinds.items():  # a step has its own row of what is the same at all
        if kind.kind == layout.KindNumber.SEQUENCE and name != "input":
            scale, shift = (_rows(graph, value, steps, sizes[name]) for value in sites[name].moving.values())
            sites[name] = Site(scale, shift)
    output, finals = recurrence.scan(wx, states, recurrence.parts(graph, sites), lengths)
    return [output, *finals]


def _affine(graph: Graph, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Site:
    """Scale and shift ``(T, n)`` or ``(1, n)`` of known statistics."""
    scale = graph.add("Reciprocal", graph.add("Sqrt", graph.add("Add", var, graph.scalar(eps))))
    if gamma is not None:
        scale = graph.add("Mul", scale, gamma)
    shift = graph.add("Neg", graph.add("Mul", scale, mean))
    return Site(scale, shift if beta is None else graph.add("Add", shift, beta))


def _folded(graph: Graph, site: Site, weight: str, bias: str | None) -> tuple[str, str]:
    """Weights and bias with the one row of an input site in them."""
    assert site.scale is not None
    assert site.shift is not None
    weight = graph.add("Mul", weight, graph.add("Transpose", site.scale, perm=[1, 0]))
    shift = graph.add("Squeeze", site.shift, graph.integers(0))
    return weight, shift if bias is None else graph.add("Add", bias, shift)


def _rows(graph: Graph, value: Any, steps: str, size: int) -> str:
    """A row for each step of one that serves at all."""
    return graph.add("Expand", value, graph.add("Concat", steps, graph.integers(size), axis=0))


def _lengths(graph: Graph, x: str, batch_sizes: str) -> str:
    """The length of each row, of the numbers of valid rows at each step."""
    rows = graph.add("Range", graph.integer(0), graph.size(x, 1), graph.integer(1))
    valid = graph.add("Less", rows, graph.add("Unsqueeze", batch_sizes, graph.integers(1)))
    counted = graph.add("Cast", valid, to=TensorProto.INT64)
    return graph.add("ReduceSum", counted, graph.integers(0), keepdims=0)
