"""The reference recurrences as functions against NumPy: each site, masks, zoneout, ragged batches, populations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from bnrnn import ops
from bnrnn.ops import Site, Sites

CELLS = ["lstm", "gru", "rnn"]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STEPS, BATCH, FEATURES, HIDDEN = 5, 4, 3, 2
LENGTHS = [5, 4, 2, 2]  # sorted, as the recurrences want them; the last step has a single row
KINDS = {"input": ["frame", "sequence", "layer"], "recurrent": ["frame", "layer"], "summed": ["frame", "layer"]}
COMBINATIONS: list[dict[str, str]] = [
    {},
    *({site: kind} for site, kinds in KINDS.items() for kind in kinds),
    {"input": "sequence", "recurrent": "frame"},
    {"input": "layer", "recurrent": "frame"},
    {"input": "frame", "recurrent": "layer"},
]
CELL_SITES = [{"cell": kind} for kind in ("frame", "layer", "shift")] + [
    {"input": "frame", "recurrent": "frame", "cell": "frame"},
    {"summed": "frame", "cell": "shift"},
]
CASES = [(cell, sites) for cell in CELLS for sites in COMBINATIONS] + [("lstm", sites) for sites in CELL_SITES]


class Problem:
    """The arguments of one call by name, as arrays; some of them are differentiated."""

    def __init__(
        self, cell: str, sites: Mapping[str, str], *, seed: int = 0, projection: int = 0, **options: Any
    ) -> None:
        self.cell, self.kinds, self.options = cell, dict(sites), options
        rng = np.random.default_rng(seed)
        width, state = GATES[cell] * HIDDEN, projection or HIDDEN
        self.arrays: dict[str, np.ndarray] = {
            "x": rng.standard_normal((STEPS, BATCH, FEATURES)),
            "h0": rng.standard_normal((BATCH, state)),
            "weight_ih": rng.standard_normal((width, FEATURES)),
            "weight_hh": rng.standard_normal((width, state)),
            "bias": rng.standard_normal(width),
        }
        if cell == "lstm":
            self.arrays["c0"] = rng.standard_normal((BATCH, HIDDEN))
        if projection:
            self.arrays["weight_hr"] = rng.standard_normal((projection, HIDDEN))
        if cell == "gru":
            self.arrays["bias_hn"] = rng.standard_normal(HIDDEN)
        self.tables: dict[str, np.ndarray] = {}
        for name, kind in sites.items():
            n = HIDDEN if name == "cell" else width
            if kind != "shift":
                self.arrays[f"{name}.gamma"] = 1 + 0.3 * rng.standard_normal(n)
            if name == "cell":
                self.arrays[f"{name}.beta"] = rng.standard_normal(n)
            rows = 1 if kind == "sequence" else STEPS
            self.tables[f"{name}.mean"] = rng.standard_normal((rows, n))
            self.tables[f"{name}.var"] = 0.5 + rng.random((rows, n))
        lengths = options.get("lengths")
        if lengths is not None:
            valid = np.arange(STEPS)[:, None] < np.array(lengths)
            self.arrays["x"] = self.arrays["x"] * valid[..., None]
        self.mask = (rng.random((BATCH, state)) < 0.7) / 0.7 if options.get("masked") else None
        zoneout = options.get("zoneout")
        self.zones: dict[str, Any] = {}
        for name, size in (("zoneout_h", state), ("zoneout_c", HIDDEN))[: 2 if cell == "lstm" else 1]:
            if zoneout == "mask":
                self.zones[name] = (rng.random((STEPS, BATCH, size)) < 0.4).astype(float)
            elif zoneout is not None:
                self.zones[name] = zoneout
        self.nonlinearity = {"nonlinearity": options.get("nonlinearity", "tanh")} if cell == "rnn" else {}

    @property
    def batch_sizes(self) -> Tensor | None:
        lengths = self.options.get("lengths")
        return None if lengths is None else (torch.tensor(lengths) > torch.arange(STEPS)[:, None]).sum(1)

    def site(self, name: str, at: Mapping[str, Any], make: Callable[..., Any], convert: Callable[[Any], Any]) -> Any:
        population = self.options.get("population") and self.kinds[name] in ("frame", "sequence")
        table = {k: convert(self.tables[f"{name}.{k}"]) for k in ("mean", "var")} if population else {}
        return make(
            self.kinds[name],
            at.get(f"{name}.gamma"),
            at.get(f"{name}.beta"),
            eps=self.options.get("eps", 1e-5),
            min_rows=self.options.get("min_rows", 2),
            **table,
        )

    def torch(self, at: Mapping[str, Tensor], backend: str = "reference") -> tuple[list[Tensor], dict[str, Any]]:
        op = getattr(ops, self.cell)
        names = [n for n in ("h0", "c0", "weight_ih", "weight_hh", "bias", "bias_hn", "weight_hr") if n in at]
        arguments = [at[n] for n in names]
        if self.cell == "gru" and "bias_hn" not in at:
            arguments.append(None)
        sites = Sites(**{n: self.site(n, at, Site, torch.as_tensor) for n in self.kinds})
        *results, statistics = op(
            at["x"],
            *arguments,
            sites=sites,
            batch_sizes=self.batch_sizes,
            recurrent_mask=None if self.mask is None else torch.as_tensor(self.mask),
            **{n: torch.as_tensor(z, dtype=torch.float64) for n, z in self.zones.items()},
            **self.nonlinearity,
            backend=backend,
        )
        return results, statistics

    def numpy(self, at: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], dict[str, Any]]:
        cell = getattr(reference, self.cell)
        sites = {n: self.site(n, at, reference.Site, np.asarray) for n in self.kinds}
        options = {"sites": sites, "lengths": self.options.get("lengths"), "mask": self.mask, **self.zones}
        if self.cell == "lstm":
            results = cell(
                *(at[n] for n in ("x", "h0", "c0", "weight_ih", "weight_hh", "bias")), at.get("weight_hr"), **options
            )
        elif self.cell == "gru":
            b_hh = np.concatenate([np.zeros(2 * HIDDEN), at["bias_hn"]])
            results = cell(*(at[n] for n in ("x", "h0", "weight_ih", "weight_hh", "bias")), b_hh, **options)
        else:
            results = cell(
                *(at[n] for n in ("x", "h0", "weight_ih", "weight_hh", "bias")), **options, **self.nonlinearity
            )
        return list(results[:-1]), results[-1]

    def compare(self) -> None:
        tensors = {n: torch.tensor(a, requires_grad=True) for n, a in self.arrays.items()}
        results, statistics = self.torch(tensors)
        expected, taken = self.numpy(self.arrays)
        for actual, value in zip(results, expected, strict=True):
            assert actual.shape == value.shape
            torch.testing.assert_close(actual.detach(), torch.tensor(value), rtol=1e-11, atol=1e-11)
        assert statistics.keys() == taken.keys()
        for name, (mean, var) in taken.items():
            own = len(mean)
            for actual, value in zip(statistics[name], (mean, var), strict=True):
                assert not actual.requires_grad
                assert len(actual) == (1 if self.kinds[name] == "sequence" else STEPS)
                torch.testing.assert_close(actual[:own], torch.tensor(value), rtol=1e-11, atol=1e-11)
                torch.testing.assert_close(actual[own:], actual[own - 1 : own].expand(len(actual) - own, -1))
        rng = np.random.default_rng(5)
        cotangents = [rng.standard_normal(r.shape) for r in expected]
        loss = sum((r * torch.tensor(c)).sum() for r, c in zip(results, cotangents, strict=True))
        gradients = torch.autograd.grad(loss, list(tensors.values()))

        def scalar(at: dict[str, np.ndarray]) -> np.ndarray:
            return sum((r * c).sum() for r, c in zip(self.numpy(at)[0], cotangents, strict=True))

        for (name, array), gradient in zip(self.arrays.items(), gradients, strict=True):
            direction = rng.standard_normal(array.shape)
            if name == "x" and self.options.get("lengths") is not None:
                assert (gradient[torch.tensor(array) == 0] == 0).all()
            slope = reference.directional(scalar, self.arrays, name, direction)
            assert float((gradient.numpy() * direction).sum()) == pytest.approx(slope, rel=1e-9, abs=1e-9), name


def name_of(value: Any) -> str:
    return "+".join(f"{s} {k}" for s, k in value.items()) or "plain" if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("cell", "sites"), CASES, ids=name_of)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("population", [False, True], ids=["batch", "population"])
def test_every_site(cell: str, sites: dict[str, str], lengths: list[int] | None, population: bool) -> None:
    Problem(cell, sites, lengths=lengths, population=population).compare()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sites", [{}, {"input": "frame", "recurrent": "frame"}, {"summed": "layer"}], ids=name_of)
@pytest.mark.parametrize("zoneout", [None, "mask", 0.35])
@pytest.mark.parametrize("masked", [False, True])
def test_masks(cell: str, sites: dict[str, str], zoneout: Any, masked: bool) -> None:
    Problem(cell, sites, lengths=LENGTHS, zoneout=zoneout, masked=masked).compare()


@pytest.mark.parametrize("sites", [{}, *CELL_SITES, {"summed": "layer"}], ids=name_of)
@pytest.mark.parametrize("zoneout", [None, "mask", 0.35])
def test_projection(sites: dict[str, str], zoneout: Any) -> None:
    Problem("lstm", sites, lengths=LENGTHS, projection=3, zoneout=zoneout, masked=True).compare()


@pytest.mark.parametrize("sites", [{}, {"summed": "frame"}, {"input": "sequence"}], ids=name_of)
def test_relu(sites: dict[str, str]) -> None:
    Problem("rnn", sites, nonlinearity="relu", lengths=LENGTHS).compare()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("min_rows", [2, 3, 4])
def test_least_number_of_rows(cell: str, min_rows: int) -> None:
    Problem(cell, {"input": "frame", "recurrent": "frame"}, lengths=LENGTHS, min_rows=min_rows).compare()


@pytest.mark.parametrize("cell", CELLS)
def test_a_large_eps(cell: str) -> None:
    """eps stands beside the variance, inside the root."""
    Problem(cell, {"input": "sequence", "recurrent": "frame"}, eps=0.5).compare()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["frame", "sequence"])
def test_steps_without_any_row(cell: str, kind: str) -> None:
    """``batch_sizes`` may end in zeros: the states stay, the outputs are zero."""
    problem = Problem(cell, {"input": kind, "recurrent": "frame"}, lengths=[3, 3, 2, 1])
    tensors = {n: torch.tensor(a) for n, a in problem.arrays.items()}
    assert problem.batch_sizes.tolist() == [4, 3, 2, 0, 0]
    results, _ = problem.torch(tensors)
    assert (results[0][3:] == 0).all()
    assert torch.equal(results[1][:2], results[0][2, :2])
    problem.compare()


@pytest.mark.parametrize("cell", CELLS)
def test_without_gain_and_offset(cell: str) -> None:
    """gamma None is 1, beta None is 0."""
    n = GATES[cell] * HIDDEN
    problem = Problem(cell, {"recurrent": "frame"})
    problem.arrays["recurrent.gamma"] = np.ones(n)
    tensors = {k: torch.tensor(v) for k, v in problem.arrays.items()}
    expected, _ = problem.torch(tensors)
    del tensors["recurrent.gamma"]
    actual, _ = problem.torch(tensors)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-15)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_integers_are_rows_of_the_identity(cell: str, dtype: torch.dtype) -> None:
    problem = Problem(cell, {"input": "sequence"}, lengths=LENGTHS)
    tokens = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1], [0, 0, 0, 0], [1, 2, 0, 0], [2, 0, 0, 0]])
    one_hot = torch.nn.functional.one_hot(tokens, FEATURES).double()
    one_hot *= (torch.arange(STEPS)[:, None] < torch.tensor(LENGTHS))[..., None]
    problem.arrays["x"] = one_hot.numpy()
    tensors = {k: torch.tensor(v) for k, v in problem.arrays.items()}
    expected, statistics = problem.torch(tensors)
    tensors["x"] = tokens.to(dtype)
    actual, own = problem.torch(tensors)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-14)
    torch.testing.assert_close(own["input"], statistics["input"], rtol=0, atol=1e-14)


TWICE = [(c, s) for c in CELLS for s in ({"summed": "frame"}, {"input": "sequence", "recurrent": "layer"})]


@pytest.mark.parametrize(("cell", "sites"), [*TWICE, ("lstm", CELL_SITES[3])], ids=name_of)
def test_gradcheck_and_gradgradcheck(cell: str, sites: dict[str, str]) -> None:
    """Every argument, element by element, and differentiable twice."""
    problem = Problem(cell, sites, lengths=[5, 5, 3, 2], masked=True, zoneout=0.2)
    names = list(problem.arrays)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(problem.torch(dict(zip(names, values, strict=True)))[0])

    inputs = [torch.tensor(a, requires_grad=True) for a in problem.arrays.values()]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_accumulates_in_float32(cell: str) -> None:
    problem = Problem(cell, {"input": "frame", "recurrent": "frame"})
    exact = {n: torch.tensor(a).bfloat16().double() for n, a in problem.arrays.items()}
    expected, taken = problem.torch(exact)
    results, statistics = problem.torch({n: v.bfloat16() for n, v in exact.items()})
    for actual, value in zip(results, expected, strict=True):
        assert actual.dtype == torch.bfloat16
        assert (actual.double() - value).abs().mean() < 0.03
    for name, pair in statistics.items():
        for actual, value in zip(pair, taken[name], strict=True):
            assert actual.dtype == torch.float32
            assert (actual.double() - value).abs().mean() < 0.1
