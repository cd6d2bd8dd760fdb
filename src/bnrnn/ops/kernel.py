"""A device's implementation of the recurrence operator as a kernel to choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bnrnn.ops import layout, loading
from bnrnn.ops._triton import availability
from bnrnn.ops._triton.plan import unsupported_sites
from bnrnn.ops.autograd import has_tangents, is_training
from bnrnn.ops.cells import Cell
from bnrnn.ops.precision import Precision, product_dtype
from bnrnn.ops.record import Recurrence, Result
from bnrnn.ops.sites import Sites


@dataclass(frozen=True)
class OperatorKernel:
    """The recurrence operator on one kind of device.

    Attributes:
        name: the backend it answers to.
        device: the type of its device, whose autocast it follows.
        why_not: the reason if it is not available here.
        dtypes: what it computes products in.
        refuses: the reason if it does not take normalizations with these numbers of :mod:`bnrnn.ops.layout`.
        rounds: whether operands come rounded, in float32, where products are of less.
    """

    name: str
    device: str
    why_not: Callable[[], str | None]
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.bfloat16)
    refuses: Callable[[Sequence[int]], str | None] = lambda numbers: None
    rounds: bool = True

    def unsupported(self, cell: Cell, call: Recurrence) -> str | None:
        """Why it cannot take this call; None if it can. An exported program may run where the kernels are."""
        place = call.weight_hh.device  # first: another device's call need not load these kernels
        if place.type != self.device:
            return f"a tensor on {place}"
        return (None if torch.compiler.is_exporting() else self.why_not()) or self.objection(call)

    def objection(self, call: Recurrence) -> str | None:
        """Why it could not take this call where it is built either; None if it could."""
        reason = self.refuses(layout.flatten(call.sites)[1])
        if reason is not None:
            return reason
        dtype = product_dtype(call.weight_hh, self.device)
        if dtype not in self.dtypes:
            known = ", ".join(str(d).removeprefix("torch.") for d in self.dtypes)
            return f"dtype {dtype} (the kernels have {known})"
        allowed = {dtype, torch.promote_types(dtype, torch.float32)}
        trained = call.trained
        found = {t.dtype for t in trained if t is not None and t.dtype.is_floating_point}
        if not found <= allowed:
            return f"tensors of different dtypes {sorted(map(str, found))}"
        parts = [
            t
            for site in call.sites
            if site is not None
            for t in (site.gamma, site.beta, site.mean, site.var)
            if t is not None
        ]
        constants = (call.recurrent_mask, *call.zoneout)
        for t in (*trained, *constants, *parts):
            if t is not None and t.device.type != self.device:
                return f"a tensor on {t.device}"
        if any(t.dtype not in allowed for t in parts):
            return "normalization parameters or statistics of another dtype than the weights"
        if any(t is not None and t.requires_grad for t in constants):
            return "a mask that requires a gradient"
        if torch._C._are_functorch_transforms_active():
            return "inside a torch.func transform"
        if has_tangents(*trained, *constants, *parts):
            return "forward-mode differentiation"
        for name, site in zip(Sites._fields, call.sites, strict=True):
            if site is None:
                continue
            if site.processes is not None:
                return f"statistics over the processes of a group on site {name!r}"
            if name != "cell" and (site.kind == "shift" or site.beta is not None):
                return f"an offset on site {name!r}"
            if name != "input" and site.kind == "sequence" and site.takes_batch_statistics:
                return f"statistics over the whole sequence on site {name!r}"
        return None

    def run(self, cell: Cell, call: Recurrence) -> Result:
        """The call itself. Make it only where :meth:`unsupported` has no objection."""
        precision = Precision(call.weight_hh, self.device, self.rounds)
        tensors, numbers, eps = precision.sites(call.sites)
        keep = is_training(*call.trained, *tensors)
        x, weight_ih, weight_hh = precision.operands(call.x, call.weight_ih, call.weight_hh)
        weight_hr = None if call.weight_hr is None else precision.operands(call.weight_hr)[0]
        h0 = call.state[0]
        c0 = call.state[1] if cell.has_cell else None
        output, h_n, c_n, statistics, _ = torch.ops.bnrnn.recurrence.default(
            cell.number, x, *precision.others(h0, c0), weight_ih, weight_hh,
            *precision.others(call.bias, call.bias_hn), weight_hr, tensors, numbers, eps, call.batch_sizes,
            *precision.others(call.recurrent_mask, call.zoneout_h, call.zoneout_c), precision.bfloat16, keep,
        )  # fmt: skip
        units = weight_hh.shape[0] // cell.gates
        taken = layout.read_statistics(statistics, call.sites, cell, x.shape[0], units)
        state = (h_n.to(h0.dtype),) if c0 is None else (h_n.to(h0.dtype), c_n.to(c0.dtype))
        return output.to(precision.product), state, taken


CPU = OperatorKernel("cpu", "cpu", lambda: loading.why_not())
TRITON = OperatorKernel(
    "triton",
    availability.DEVICE,
    lambda: availability.why_not(),
    (torch.float32, torch.float64, torch.bfloat16, torch.float16),
    unsupported_sites,
    rounds=False,
)
