"""The operators, defined where this is imported and implemented for each device.

The CPU's implementation comes with the compiled object, which is loaded when an operator is first called, a GPU's is
written in Triton, imported at its first call; another device's is a registration ``LIBRARY.impl("recurrence", ...)``.
Where there is none the reference serves, so that an exported program runs anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bnrnn.ops import autograd, layout, loading, shapes
from bnrnn.ops._triton import availability
from bnrnn.ops._triton.plan import unsupported_sites
from bnrnn.ops.cells import NUMBERED
from bnrnn.ops.references import REFERENCES

_ARGUMENTS = (
    "int cell, Tensor x, Tensor h0, Tensor? c0, Tensor weight_ih, Tensor weight_hh, Tensor? bias, Tensor? bias_hn, "
    "Tensor? weight_hr, Tensor[] site_tensors, int[] site_layout, float[] eps, Tensor? batch_sizes, "
    "Tensor? recurrent_mask, Tensor? zoneout_h, Tensor? zoneout_c, bool bfloat16"
)
LIBRARY = torch.library.Library("bnrnn", "FRAGMENT")
"""Kept, since what it registered would go with it."""
LIBRARY.define(
    f"recurrence({_ARGUMENTS}, bool keep) -> (Tensor output, Tensor h_n, Tensor c_n, Tensor statistics, Tensor saved)"
)
LIBRARY.define(
    "recurrence_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor statistics, Tensor saved, "
    f"{_ARGUMENTS}, bool need_x) -> (Tensor grad_x, Tensor grad_h0, Tensor grad_c0, "
    "Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_biases, Tensor grad_weight_hr, Tensor grad_sites)"
)
LIBRARY.define(
    "step(int cell, Tensor x, Tensor h, Tensor? c, Tensor weight_ih, Tensor weight_hh, Tensor? weight_hr, "
    "Tensor table, int row, float zoneout_h, float zoneout_c) -> (Tensor new_h, Tensor new_c)"
)
LIBRARY.define(
    "average_(Tensor(a!) mean, Tensor(b!) var, Tensor(c!) count, Tensor batch_mean, Tensor batch_var, int start, "
    "float momentum) -> ()"
)


def check_place(name: str, tensors: Sequence[Tensor | None], batch_sizes: Tensor | None = None) -> str:
    """The type of the one device that all are on; ``batch_sizes`` may stay on the CPU.

    Raises:
        RuntimeError: tensors of several devices, or such that no implementation takes.
    """
    places = {(t.device, t.layout) for t in tensors if t is not None}
    found = [*places, *([] if batch_sizes is None else [(batch_sizes.device, batch_sizes.layout)])]
    device = found[0][0]
    if len(places) > 1 or any(layout != torch.strided or d not in (device, torch.device("cpu")) for d, layout in found):
        named = ", ".join(sorted({f"{layout} on {device}" for device, layout in found}))
        raise RuntimeError(f"bnrnn::{name} takes strided tensors of one device, got {named}")
    return device.type


def loads_here(name: str, tensors: Sequence[Tensor | None], batch_sizes: Tensor | None = None) -> bool:
    """Whether the CPU's implementation has been loaded by this call, which then has to be made again."""
    return check_place(name, tensors, batch_sizes) == "cpu" and loading.why_not() is None


def _own(arguments: Sequence[Any]) -> tuple[list[Tensor | None], Tensor | None]:
    """The tensors among a recurrence's arguments, ``batch_sizes`` apart."""
    return [*arguments[1:9], *arguments[9], *arguments[13:16]], arguments[12]


def _recurrence(*arguments: Any) -> tuple[Tensor, ...]:
    """The reference, for a device without an implementation of its own."""
    if loads_here("recurrence", *_own(arguments)):
        return torch.ops.bnrnn.recurrence.default(*arguments)
    if arguments[5].device.type == "cpu":  # an exported program, or a graph of torch.compile kept from elsewhere
        loading.warn_of_absence()
    cell, call = autograd.record(*arguments[:-1])
    h0, c0, weight_hh = arguments[2], arguments[3], arguments[5]
    output, state, statistics = REFERENCES[cell.name](call)
    c_n = state[1] if c0 is not None else h0.new_empty(0, weight_hh.shape[0] // cell.gates)
    return (
        output.to(weight_hh.dtype),
        state[0].clone() if state[0] is call.state[0] else state[0],
        c_n.clone() if c_n is c0 else c_n,
        layout.write_statistics(statistics, h0),
        h0.new_empty(0),
    )


def _recurrence_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *own, need_x = arguments[5:]
    tensors, batch_sizes = _own(own)
    if loads_here("recurrence_backward", [*arguments[:5], *tensors], batch_sizes):
        return torch.ops.bnrnn.recurrence_backward.default(*arguments)
    number, x, _, _, weight_ih, weight_hh, _, _, weight_hr, sites, numbers, *_ = own
    cell = NUMBERED[number]
    found, of_sites = autograd.reference_backward(arguments[:3], own, [need_x] + [True] * (7 + len(sites)))
    results = list(shapes.gradients(cell, x, weight_ih, weight_hh, weight_hr, need_x))
    for result in results:
        result.zero_()
    width = cell.gates * (weight_hh.shape[0] // cell.gates)
    places = [*results[:5], results[5][:width], results[5][width:], results[6]]
    left = iter(layout.site_gradients(results[7], numbers, cell, width // cell.gates))
    places += [next(left) for _ in sites]
    for place, value in zip(places, (*found, *of_sites), strict=True):
        if place is not None and value is not None:
            place.copy_(value)
    return tuple(results)


def _on_gpu(*arguments: Any) -> tuple[Tensor, ...]:
    """The Triton kernels, imported at the first call of them."""
    x, numbers = arguments[1], arguments[10]
    check_place("recurrence", *_own(arguments))
    if availability.why_not() is not None or unsupported_sites(numbers) is not None or x.shape[1] == 0:
        return _recurrence(*arguments)
    from bnrnn.ops._triton import recurrence

    return recurrence.forward(*arguments)


def _backward_on_gpu(*arguments: Any) -> tuple[Tensor, ...]:
    saved = arguments[4]
    if saved.numel() == 0:
        return _recurrence_backward(*arguments)
    tensors, batch_sizes = _own(arguments[5:])
    check_place("recurrence_backward", [*arguments[:5], *tensors], batch_sizes)
    from bnrnn.ops._triton import recurrence

    return recurrence.backward(*arguments)


def _fake(*arguments: Any) -> tuple[Tensor, ...]:
    number, x, _, _, weight_ih, weight_hh, _, _, weight_hr, _, numbers, _, _, mask, zoneout_h, _, bfloat16, keep = (
        arguments
    )
    check_place("recurrence", *_own(arguments))
    cell = NUMBERED[number]
    saved = (
        shapes.kept(cell, x, weight_ih, weight_hh, weight_hr, numbers, mask, zoneout_h, bfloat16)
        if keep
        else shapes.full(weight_hh, 0)
    )
    return (*shapes.states(cell, x, weight_hh), shapes.statistics(cell, x, weight_hh, numbers), saved)


def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    number, x, _, _, weight_ih, weight_hh, _, _, weight_hr, *_, need_x = arguments[5:]
    tensors, batch_sizes = _own(arguments[5:])
    check_place("recurrence_backward", [*arguments[:5], *tensors], batch_sizes)
    return shapes.gradients(NUMBERED[number], x, weight_ih, weight_hh, weight_hr, need_x)


def _step(*arguments: Any) -> tuple[Tensor, Tensor]:
    """There is no step but the CPU's."""
    if loads_here("step", arguments[1:8]):
        return torch.ops.bnrnn.step.default(*arguments)
    raise RuntimeError(f"bnrnn::step is not built for this device: {loading.why_not()}")


def _fake_step(*arguments: Any) -> tuple[Tensor, Tensor]:
    check_place("step", arguments[1:8])
    _, _, h, c, *_ = arguments
    return torch.empty_like(h), h.new_empty(0, h.shape[1]) if c is None else torch.empty_like(c)


for _name, _implementation, _shape in (
    ("recurrence", _recurrence, _fake),
    ("recurrence_backward", _recurrence_backward, _fake_backward),
    ("step", _step, _fake_step),
):
    LIBRARY.impl(_name, _implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"bnrnn::{_name}", _shape, lib=LIBRARY)
for _name, _implementation in (("recurrence", _on_gpu), ("recurrence_backward", _backward_on_gpu)):
    LIBRARY.impl(_name, _implementation, availability.DEVICE.upper())
LIBRARY.impl(
    "recurrence",
    autograd.differentiable(torch.ops.bnrnn.recurrence.default, torch.ops.bnrnn.recurrence_backward.default),
    "Autograd",
    with_keyset=True,
)
LIBRARY.impl(
    "recurrence_backward",
    autograd.once_differentiable(torch.ops.bnrnn.recurrence_backward.default),
    "Autograd",
    with_keyset=True,
)
