"""The compiled CPU kernels: found and loaded at the first call that asks for them, never at import."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnrnn.ops.sites import Sites, Statistics

OBJECT = Path(__file__).parent.parent / "_kernels.so"
KINDS = {"frame": 1, "sequence": 2, "layer": 3, "shift": 4}
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_registrations: list[Callable[[], None]] = []


def on_load(register: Callable[[], None]) -> Callable[[], None]:
    """Keep what an operator has to register in Python until the shared object has defined the operator."""
    _registrations.append(register)
    return register


@cache
def _load() -> str | None:
    if not OBJECT.exists():
        return (
            "the package was installed without CPU kernels (it needs a C++ compiler, and "
            "pip install --no-build-isolation in an environment that has torch; its option -v shows what failed)"
        )
    try:
        torch.ops.load_library(OBJECT)
    except OSError as error:
        return f"the CPU kernels could not be loaded: {error}"
    sources = OBJECT.parent / "csrc"
    if sources.is_dir():  # an editable install; a wheel has none
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources.glob("*.[ch]*")))).hexdigest()
        built_from = getattr(torch.ops.bnrnn, "sources", None)
        if built_from is None or built_from() != digest:
            return "the CPU kernels were built from other sources than these: install the package again"
    for register in _registrations:
        register()
    return None


def why_not() -> str | None:
    """Load the kernels at the first call; the reason if there are none."""
    return _load()


# torch.compile takes the answer as a constant and does not look inside: loading cannot be traced. This is what
# torch.compiler.assume_constant_result does, without the import of the whole compiler.
why_not._dynamo_marked_constant = True  # type: ignore[attr-defined]


def facts() -> dict[str, Any]:
    """What :func:`bnrnn.backends` tells of the CPU kernels."""
    reason = why_not()
    if reason is not None:
        return {"available": False, "reason": reason}
    return {
        "available": True,
        "instruction_set": torch.ops.bnrnn.instruction_set(),
        "instruction_sets": torch.ops.bnrnn.instruction_sets().split(),
    }


def unsupported(
    x: Tensor, tensors: tuple[Tensor | None, ...], constants: tuple[Tensor | None, ...], sites: Sites
) -> str | None:
    """Why the kernels cannot take a call on these tensors; None if they can.

    Args:
        x: the input, floating point or one-hot indices.
        tensors: weights, the recurrent one first, states and biases: all of one dtype, or of float32 and bfloat16.
        constants: masks, through which no gradient goes.
        sites: the normalizations.
    """
    reason = why_not()
    if reason is not None:
        return reason
    dtype = product_dtype(next(t for t in tensors if t is not None))
    if dtype not in _DTYPES:
        return f"dtype {dtype} (the kernels have float32, float64 and bfloat16)"
    allowed = {torch.float32, torch.bfloat16} if dtype == torch.bfloat16 else {dtype}
    found = {t.dtype for t in (*tensors, *([x] if x.is_floating_point() else [])) if t is not None}
    if not found <= allowed:
        return f"tensors of different dtypes {sorted(map(str, found))}"
    parts = [t for site in sites if site is not None for t in (site.gamma, site.beta, site.mean, site.var)]
    for t in (x, *tensors, *constants, *parts):
        if t is not None and not t.is_cpu:
            return f"a tensor on {t.device}"
    if any(t is not None and t.dtype not in allowed for t in parts):
        return "normalization parameters or statistics of another dtype than the weights"
    if any(t is not None and t.requires_grad for t in constants):
        return "a mask that requires a gradient"
    if torch._C._are_functorch_transforms_active():
        return "inside a torch.func transform"
    for name, site in zip(Sites._fields, sites, strict=True):
        if site is None:
            continue
        if name != "cell" and (site.kind == "shift" or site.beta is not None):
            return f"an offset on site {name!r}"
        if name != "input" and site.kind == "sequence" and site.takes_batch_statistics:
            return f"statistics over the whole sequence on site {name!r}"
    return None


def flatten_sites(sites: Sites) -> tuple[list[Tensor], list[int], list[float]]:
    """Sites as an operator's arguments: tensors, four numbers each (kind, which tensors, least rows, 0), eps."""
    tensors: list[Tensor] = []
    layout: list[int] = []
    eps: list[float] = []
    for site in sites:
        if site is None:
            layout += (0, 0, 0, 0)
            eps.append(0.0)
            continue
        given = (site.gamma, site.beta, site.mean, site.var)
        tensors += [t for t in given if t is not None]
        which = (site.gamma is not None) + 2 * (site.beta is not None) + 4 * (site.mean is not None)
        layout += (KINDS[site.kind], which, site.min_rows, 0)
        eps.append(site.eps)
    return tensors, layout, eps


def site_sizes(gates: int, units: int) -> tuple[int, int, int, int]:
    """Features of input, recurrent, summed and cell."""
    return gates * units, gates * units, gates * units, units


def statistics_shapes(layout: list[int], gates: int, steps: int, units: int) -> list[tuple[int, int] | None]:
    """Shape of the mean that each site takes from its batch; None where it takes none."""
    shapes: list[tuple[int, int] | None] = []
    for i, n in enumerate(site_sizes(gates, units)):
        kind, which = layout[4 * i : 4 * i + 2]
        own = kind in (1, 2) and not which & 4
        shapes.append((1 if kind == 2 else steps, n) if own else None)
    return shapes


def statistics_size(layout: list[int], gates: int, steps: int, units: int) -> int:
    return sum(2 * shape[0] * shape[1] for shape in statistics_shapes(layout, gates, steps, units) if shape)


def read_statistics(flat: Tensor, layout: list[int], gates: int, steps: int, units: int) -> Statistics:
    """The flat result of an operator as site name to (mean, var)."""
    shapes = {k: v for k, v in zip(Sites._fields, statistics_shapes(layout, gates, steps, units), strict=True) if v}
    if not shapes:
        return {}
    parts = iter(flat.split([rows * n for rows, n in shapes.values() for _ in range(2)]))
    return {name: (next(parts).view(shape), next(parts).view(shape)) for name, shape in shapes.items()}


def site_gradients(flat: Tensor, layout: list[int], gates: int, units: int) -> list[Tensor | None]:
    """Gradients of the tensors that :func:`flatten_sites` made, from an operator's flat result."""
    *gammas, beta = flat.split([*site_sizes(gates, units), units])
    grads: list[Tensor | None] = []
    for i, gamma in enumerate(gammas):
        which = layout[4 * i + 1]
        if which & 1:
            grads.append(gamma)
        if which & 2:
            grads.append(beta)
        if which & 4:
            grads += (None, None)
    return grads


@dataclass(frozen=True)
class Shape:
    """Result shapes of an operator, for fake tensors.

    What is kept for the backward pass has the size that the kernels' ``Slabs`` gives it.
    """

    x: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    gates: int
    ranges: int = 1  # of gates that layer normalization takes apart
    always_separate: bool = False
    needs_previous_state: bool = False
    has_cell: bool = False

    def states(self, count: int) -> tuple[Tensor, ...]:
        """Output and ``count`` final states."""
        steps, batch = self.x.shape[:2]
        units = self.weight_hh.shape[1]
        new = self.weight_hh.new_empty
        return (new(steps, batch, units), *(new(batch, units) for _ in range(count)))

    def kept(
        self, layout: list[int], mask: Tensor | None, zoneout_h: Tensor | None, bfloat16: bool, keep: bool
    ) -> tuple[Tensor, Tensor]:
        """Statistics, and what the backward pass needs."""
        steps, batch = self.x.shape[:2]
        units, itemsize = self.weight_hh.shape[1], self.weight_hh.dtype.itemsize
        new = self.weight_hh.new_empty
        statistics = new(statistics_size(layout, self.gates, steps, units))
        if not keep:
            return statistics, new(0)
        lanes = torch.ops.bnrnn.vector_bytes() // itemsize
        padded = (units + lanes - 1) // lanes * lanes
        stride = padded + lanes if padded * itemsize % 2048 == 0 else padded
        input_kind, recurrent_kind = layout[0], layout[4]
        separate = self.always_separate or input_kind in (1, 2, 3) or recurrent_kind in (1, 2, 3)
        sequence = input_kind == 2 and not layout[1] & 4
        wide = self.x.is_floating_point() and self.weight_ih.shape[1] > 32
        keep_input = separate and (wide or sequence or input_kind == 3)
        raw_state = (mask is not None or bfloat16) and (self.needs_previous_state or zoneout_h is not None)
        states = (steps + 1) * batch * stride * (2 if raw_state else 1)
        cells = (steps + 1) * batch * padded if self.has_cell else 0
        products = steps * batch * self.gates * padded * (2 if keep_input else 1)
        slots = sum(n for n, kind in zip((*[self.ranges] * 3, 1), layout[::4], strict=True) if kind == 3)
        return statistics, new(states + cells + products + 2 * slots * steps * batch)

    def gradients(self, states: int, need_x: bool, biases: int | None = None) -> tuple[Tensor, ...]:
        """Of x, ``states`` initial states, the weights, the biases and the sites."""
        steps, batch = self.x.shape[:2]
        units = self.weight_hh.shape[1]
        new = self.weight_hh.new_empty
        return (
            new(steps if need_x else 0, batch, self.weight_ih.shape[1]),
            *(new(batch, units) for _ in range(states)),
            new(self.weight_ih.shape),
            new(self.weight_hh.shape),
            new((biases or self.gates) * units),
            new((3 * self.gates + 2) * units),
        )


def refuse_double_backward(ctx: Any, *grads: Tensor | None) -> Any:
    raise RuntimeError(
        "the CPU kernels cannot be differentiated twice; use backend='reference' for gradients of gradients"
    )


def register(
    name: str,
    fake: Callable[..., Any],
    fake_backward: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
) -> None:
    """Tell torch of an operator and its backward what the shared object does not.

    ``backward`` gives gradients of the operator's arguments up to those of the sites' tensors, which are a list.
    """
    torch.library.register_fake(f"bnrnn::{name}", fake)
    torch.library.register_fake(f"bnrnn::{name}_backward", fake_backward)
    _own_library().impl(name, _autograd(name, setup_context, backward), "Autograd", with_keyset=True)
    torch.library.register_autograd(f"bnrnn::{name}_backward", refuse_double_backward)


@cache
def _own_library() -> torch.library.Library:
    """Kept, since what it registered would go with it."""
    return torch.library.Library("bnrnn", "IMPL")


def _autograd(name: str, setup_context: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """What :func:`torch.library.register_autograd` would make, at a third of its cost.

    Its generic treatment of lists of tensors and of defaults took longer than a short call's arithmetic.
    """
    operator = getattr(torch.ops.bnrnn, name).default

    def below(keyset: Any, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)

    class Recurrence(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            keyset, arguments = inputs[-1]
            output = below(keyset, arguments)
            setup_context(ctx, arguments, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            *gradients, sites = backward(ctx, *grads)
            return *gradients, *sites, None

    def run(keyset: Any, *arguments: Any) -> tuple[Tensor, ...]:
        if not arguments[-1]:  # keep: no backward pass will follow
            return below(keyset, arguments)
        tensors = next(i for i, argument in enumerate(arguments) if isinstance(argument, list))
        # Autograd finds tensors among arguments, but not inside of lists.
        return Recurrence.apply(*arguments[:tensors], *arguments[tensors], (keyset, arguments))

    return run


def is_training(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def product_dtype(weight: Tensor) -> torch.dtype:
    """The precision of the products: the weights', or autocast's in its place."""
    if weight.dtype == torch.float32 and torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return weight.dtype


class Precision:
    """Brings a call's tensors into the kernels' precision.

    For products in bfloat16 the kernels have operands rounded to bfloat16 and compute in float32, where such products
    are exact; the state is rounded on its way into the recurrent product.
    """

    def __init__(self, weight: Tensor) -> None:
        self.product = product_dtype(weight)
        self.kernel = torch.promote_types(self.product, torch.float32)
        self.bfloat16 = self.product == torch.bfloat16

    def operands(self, *tensors: Tensor) -> list[Tensor]:
        """Of the products; integers stay as they are."""
        return [t.to(self.product).to(self.kernel) if t.is_floating_point() else t.long() for t in tensors]

    def others(self, *tensors: Tensor | None) -> list[Tensor | None]:
        """States, biases, masks."""
        return [t if t is None or t.dtype == self.kernel else t.to(self.kernel) for t in tensors]

    def sites(self, sites: Sites) -> tuple[list[Tensor], list[int], list[float]]:
        tensors, layout, eps = flatten_sites(sites)
        return [t if t.dtype == self.kernel else t.to(self.kernel) for t in tensors], layout, eps
