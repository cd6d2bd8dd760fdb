"""Random calls of a recurrence and their comparison between a kernel and the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bnrnn.ops import Site, Sites

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True)
class Case:
    """What a call consists of; everything random follows from the seed."""

    cell: str
    steps: int = 7
    batch: int = 5
    inputs: int = 3
    units: int = 19
    sites: tuple[tuple[str, str], ...] = ()
    population: bool = False
    gamma: bool = True
    lengths: bool = False
    min_rows: int = 2
    one_hot: bool = False
    bias: bool = True
    mask: bool = False
    zoneout: str | None = None
    nonlinearity: str = "tanh"
    projection: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        where = "+".join(f"{site}:{kind}" for site, kind in self.sites) or "plain"
        extra = [k for k in ("population", "lengths", "one_hot", "mask") if getattr(self, k)]
        extra += [f"zoneout-{self.zoneout}"] if self.zoneout else []
        extra += [f"projected-{self.projection}"] if self.projection else []
        extra += [] if self.bias else ["no-bias"]
        extra += [] if self.gamma else ["no-gamma"]
        return f"{self.steps}x{self.batch}x{self.inputs}x{self.units}-{'-'.join([where, *extra])}"


@dataclass(frozen=True)
class Call:
    args: tuple[Tensor | None, ...]
    kwargs: dict[str, Any]
    leaves: dict[str, Tensor]

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Call:
        """The same numbers in another precision, as fresh leaves; ``batch_sizes`` stays on the CPU."""
        new: dict[int, Tensor] = {}

        def convert(t: Tensor | None) -> Tensor | None:
            if t is None or t is self.kwargs["batch_sizes"]:
                return t
            if not t.is_floating_point():
                return t.to(device)
            if id(t) not in new:
                new[id(t)] = t.detach().to(device, dtype).clone().requires_grad_(t.requires_grad)
            return new[id(t)]

        def convert_site(site: Site | None) -> Site | None:
            if site is None:
                return None
            fields = {k: convert(getattr(site, k)) for k in ("gamma", "beta", "mean", "var")}
            return site._replace(**fields)

        kwargs = {
            k: Sites(*map(convert_site, v)) if k == "sites" else convert(v) if isinstance(v, Tensor) else v
            for k, v in self.kwargs.items()
        }
        args = tuple(convert(a) for a in self.args)
        return Call(args, kwargs, {k: new[id(v)] for k, v in self.leaves.items()})


def build(case: Case, requires_grad: bool = True) -> Call:
    """The call in float64."""
    g = torch.Generator().manual_seed(case.seed)
    gates, T, B, H = GATES[case.cell], case.steps, case.batch, case.units
    R = case.projection or H
    leaves: dict[str, Tensor] = {}

    def normal(name: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        t = torch.randn(*shape, generator=g, dtype=torch.float64) * scale + offset
        leaves[name] = t.float().double().requires_grad_(requires_grad)
        return leaves[name]

    def constant(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64).float().double()

    x = torch.randint(0, case.inputs, (T, B), generator=g) if case.one_hot else normal("x", T, B, case.inputs)
    batch_sizes = None
    if case.lengths:
        lengths = torch.randint(0, T + 1, (B,), generator=g).sort(descending=True).values
        lengths[: case.min_rows] = lengths[: case.min_rows].clamp(min=1)
        batch_sizes = (lengths > torch.arange(T).unsqueeze(1)).sum(1)
        if not case.one_hot:
            with torch.no_grad():
                x *= (torch.arange(B) < batch_sizes.unsqueeze(1)).unsqueeze(-1)

    chosen: dict[str, Site] = {}
    for name, kind in case.sites:
        n = H if name == "cell" else gates * H
        population = case.population and kind in ("frame", "sequence")
        rows = 1 if kind == "sequence" else T
        chosen[name] = Site(
            kind,  # type: ignore[arg-type]
            normal(f"{name}.gamma", n, scale=0.3, offset=0.8) if case.gamma and kind != "shift" else None,
            normal(f"{name}.beta", n, scale=0.3) if name == "cell" else None,
            min_rows=case.min_rows,
            mean=constant(rows, n) if population else None,
            var=constant(rows, n) + 0.1 if population else None,
        )
    weights = (
        normal("weight_ih", gates * H, case.inputs, scale=case.inputs**-0.5),
        normal("weight_hh", gates * H, R, scale=R**-0.5),
        normal("bias", gates * H, scale=0.3) if case.bias else None,
    )
    states = [normal("h0", B, R, scale=0.5)]
    if case.cell == "lstm":
        states.append(normal("c0", B, H, scale=0.5))
    if case.cell == "gru":
        weights += (normal("bias_hn", H, scale=0.3) if case.bias else None,)
    if case.projection:
        weights += (normal("weight_hr", R, H, scale=H**-0.5),)
    kwargs: dict[str, Any] = {"sites": Sites(**chosen), "batch_sizes": batch_sizes}
    if case.mask:
        kwargs["recurrent_mask"] = (constant(B, R) > 0.4).double() / 0.6
    if case.zoneout == "mask":
        kwargs["zoneout_h"] = (constant(T, B, R) > 0.7).double()
        if case.cell == "lstm":
            kwargs["zoneout_c"] = (constant(T, B, H) > 0.6).double()
    elif case.zoneout == "expectation":
        kwargs["zoneout_h"] = torch.tensor(0.2, dtype=torch.float64)
        if case.cell == "lstm":
            kwargs["zoneout_c"] = torch.tensor(0.3, dtype=torch.float64)
    if case.cell == "rnn":
        kwargs["nonlinearity"] = case.nonlinearity
    return Call((x, *states, *weights), kwargs, leaves)


def run(op: Callable[..., Any], call: Call, backend: str, seed: int = 1) -> dict[str, Tensor]:
    """Outputs, states, statistics, and all gradients under random cotangents."""
    *results, statistics = op(*call.args, backend=backend, **call.kwargs)
    names = ("output", "h_n", "c_n")[: len(results)]
    found = dict(zip(names, results, strict=True))
    if call.leaves and next(iter(call.leaves.values())).requires_grad:
        g = torch.Generator().manual_seed(seed)
        cotangents = [torch.randn(r.shape, generator=g, dtype=torch.float64).to(r.device, r.dtype) for r in results]
        grads = torch.autograd.grad(results, list(call.leaves.values()), cotangents)
        found |= {f"grad of {k}": v for k, v in zip(call.leaves, grads, strict=True)}
    for site, (mean, var) in statistics.items():
        found |= {f"mean of {site}": mean, f"variance of {site}": var}
    return {k: v.detach().cpu() for k, v in found.items()}


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Largest deviation of each result, relative to the size of that result; a mean's size includes the deviation."""
    assert found.keys() == expected.keys()
    errors = {}
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        size = value.abs().max().item() if value.numel() else 0.0
        if name.startswith("mean"):
            size += expected[name.replace("mean", "variance")].max().sqrt().item()
        error = (found[name].double() - value).abs()
        errors[name] = error.max().item() / max(size, 1e-2) if value.numel() else 0.0
    return errors


def worst(
    op: Callable[..., Any], case: Case, dtype: torch.dtype = torch.float32, backend: str = "cpu"
) -> tuple[str, float]:
    """The result in which the kernel is furthest from the float64 reference, and by how much."""
    call = build(case)
    errors = difference(run(op, call.to(dtype), backend), run(op, call, "reference"))
    name = max(errors, key=lambda k: errors[k] if errors[k] == errors[k] else float("inf"))
    return name, errors[name]


def variants(case: Case, **changes: Sequence[Any]) -> list[Case]:
    """The case with one field changed at a time."""
    return [replace(case, **{field: value}) for field, values in changes.items() for value in values]
