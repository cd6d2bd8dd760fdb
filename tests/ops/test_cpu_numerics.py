"""What float32 leaves of the CPU kernels' results where it is hard: large means, many rows, saturated gates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.ops.cpu_cases import Call, Case, build, difference, run

from bnrnn import ops
from bnrnn.ops import Site, Sites, loading

OPS = {"lstm": ops.lstm, "gru": ops.gru, "rnn": ops.rnn}
ISAS = ["baseline", "avx2", "avx512"]
EVERYWHERE = [("input", "frame"), ("input", "sequence"), ("input", "layer"), ("recurrent", "frame"),
              ("recurrent", "layer"), ("summed", "frame"), ("summed", "layer")]  # fmt: skip
WHERE = [(cell, *where) for cell in OPS for where in EVERYWHERE]
WHERE += [("lstm", "cell", "frame"), ("lstm", "cell", "layer")]

pytestmark = pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param not in loading.facts()["instruction_sets"]:
        pytest.skip(f"this processor has no {request.param}")
    best = torch.ops.bnrnn.instruction_set()
    torch.ops.bnrnn.use_instruction_set(request.param)
    yield request.param
    torch.ops.bnrnn.use_instruction_set(best)


def far_from_zero(case: Case, site: str, mean: float) -> Call:
    """The call with a mean that the site has to take away, in whatever it normalizes."""
    call = build(case)
    states = {"input": ("x",), "recurrent": ("h0",), "summed": ("x", "h0"), "cell": ("c0",)}[site]
    with torch.no_grad():
        for name in states:
            call.leaves[name].add_(mean).copy_(call.leaves[name].float())
        if site == "cell":
            call.leaves["bias"][case.units : 2 * case.units] += 6  # open forget gates
    return call


@pytest.mark.parametrize("mean", [10.0, 100.0, 300.0])
@pytest.mark.parametrize(("cell", "site", "kind"), WHERE)
def test_the_error_at_large_means_is_the_eager_one(cell: str, site: str, kind: str, mean: float) -> None:
    """The closed form of the gradient takes the normalized values' mean for 0, which rounding undoes."""
    found: dict[str, float] = {}
    eager: dict[str, float] = {}
    for seed in range(4):  # the worst of some, as each is a matter of luck
        case = Case(cell, steps=4, batch=64, inputs=5, sites=((site, kind),), seed=seed)
        call = far_from_zero(case, site, mean)
        expected = run(OPS[cell], call, "reference")
        for backend, errors in (("cpu", found), ("reference", eager)):
            new = difference(run(OPS[cell], call.to(torch.float32), backend), expected)
            errors.update({name: max(error, errors.get(name, 0.0)) for name, error in new.items()})
    for name, error in found.items():
        assert error < 5 * eager[name] + 2e-6, name


def sequence_statistics(steps: int, batch: int, units: int) -> tuple[float, float]:
    """Relative error of mean and variance over the whole sequence, the mean's relative to the deviation."""
    torch.manual_seed(0)
    x = torch.empty(steps, batch, 1).normal_(3.0, 0.01)
    with torch.no_grad():
        *_, statistics = ops.rnn(
            x, torch.zeros(batch, units), torch.ones(units, 1), torch.zeros(units, units), None,
            sites=Sites(input=Site("sequence")), backend="cpu",
        )  # fmt: skip
    var, mean = torch.var_mean(x.double(), correction=0)
    found_mean, found_var = (t.double() for t in statistics["input"])
    return ((found_mean - mean) / var.sqrt()).abs().max().item(), (found_var / var - 1).abs().max().item()


@pytest.mark.parametrize("isa", ["baseline"], indirect=True)  # the narrowest vectors need the least memory
def test_statistics_over_ten_million_rows(isa: str) -> None:
    mean_error, variance_error = sequence_statistics(200_000, 64, 4)
    torch.ops.bnrnn.release_memory()
    assert mean_error < 1e-4  # half the distance of two float32 numbers at 3 is 1.2e-5 deviations
    assert variance_error < 1e-5


@pytest.mark.parametrize("isa", ISAS, indirect=True)
@pytest.mark.parametrize(("steps", "batch"), [(20_000, 16), (3, 60_000)])
def test_statistics_over_many_rows(isa: str, steps: int, batch: int) -> None:
    mean_error, variance_error = sequence_statistics(steps, batch, 3)
    assert mean_error < 1e-4
    assert variance_error < 1e-5


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_statistics_of_a_frame_with_many_rows(isa: str) -> None:
    torch.manual_seed(0)
    x = torch.empty(1, 300_000, 1).normal_(3.0, 0.01)
    with torch.no_grad():
        *_, statistics = ops.rnn(
            x, torch.zeros(300_000, 1), torch.ones(1, 1), torch.zeros(1, 1), None,
            sites=Sites(input=Site("frame")), backend="cpu",
        )  # fmt: skip
    var, mean = torch.var_mean(x.double(), correction=0)
    found_mean, found_var = (t.double() for t in statistics["input"])
    assert ((found_mean - mean) / var.sqrt()).abs().item() < 1e-4
    assert (found_var / var - 1).abs().item() < 1e-5


@pytest.mark.parametrize("isa", ISAS, indirect=True)
@pytest.mark.parametrize("kind", ["frame", "sequence"])
def test_the_variance_of_equal_rows_is_not_negative_and_that_of_no_number_is_none(isa: str, kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 200).expand(1, 99, 200)  # as the recurrent product of the first step, of one learnt h_0
    weight = torch.eye(200)
    site = Sites(input=Site(kind))  # pyright: ignore[reportArgumentType]
    for value in (1.0, float("nan")):
        *_, statistics = ops.rnn(
            x * value, torch.zeros(99, 200), weight, torch.zeros(200, 200), None, sites=site, backend="cpu"
        )
        _, var = statistics["input"]
        assert torch.all(var >= 0) if value == 1 else torch.all(var.isnan())


@pytest.mark.parametrize("isa", ISAS, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sigmoid_is_right_or_zero(isa: str, dtype: torch.dtype) -> None:
    """h = sigmoid(bias of the output gate) where the cell's tanh is 1: never a number that is not normal."""
    lowest = -88.0 if dtype == torch.float32 else -709.0
    edge = torch.linspace(lowest - 2, lowest + 2, 401, dtype=dtype)
    far = torch.tensor([-3e38, -1e4, 0, 1e4, 3e38], dtype=dtype)
    gate = torch.cat([edge, torch.linspace(lowest, -lowest, 301, dtype=dtype), far])
    n = len(gate)
    bias = torch.cat([torch.zeros(n), torch.full((n,), 30.0), torch.zeros(n), torch.zeros(n)]).to(dtype)
    bias[3 * n :] = gate
    zero, weight = torch.zeros(1, n, dtype=dtype), torch.zeros(4 * n, n, dtype=dtype)
    output, *_ = ops.lstm(
        zero.new_zeros(1, 1, 1), zero, zero + 50, zero.new_zeros(4 * n, 1), weight, bias, backend="cpu"
    )
    found, expected = output.flatten(), torch.sigmoid(gate.double())
    tiny = torch.finfo(dtype).tiny
    assert torch.all((found == 0) | (found >= tiny))
    normal = expected > 1.05 * tiny
    torch.testing.assert_close(found[normal].double(), expected[normal], rtol=20 * torch.finfo(dtype).eps, atol=0)
    assert torch.all(found[~normal] <= 1.1 * tiny)
    nan, *_ = ops.lstm(
        zero.new_zeros(1, 1, 1), zero, zero + 50, zero.new_zeros(4 * n, 1), weight, bias * torch.nan, backend="cpu"
    )
    assert nan.isnan().all()
