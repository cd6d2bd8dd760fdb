"""Statistics over the rows of several processes: parts of a batch in 2 and 4 of them equal the whole in one."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import bnrnn
import processes
from bnrnn import BatchNorm, Norm
from bnrnn.nn.norm.presets import resolve
from build import CLASSES, FRAME, call, close, make, norms_of, states, tables, tensor

STEPS, ROWS = 5, 9
SHARES = {2: (5, 4), 4: (3, 0, 5, 1)}
"""How many of the rows each process has."""


@dataclass(frozen=True)
class Case:
    """A layer, and how it is called."""

    cell: str
    norm: Any
    lengths: tuple[int, ...] | None = None
    packed: bool = False
    layers: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    offset: float = 0.0

    def layer(self) -> Any:
        return make(self.cell, 3, 4, self.layers, norm=self.norm, **self.options)


LENGTHS = (5, 4, 4, 2, 3, 4, 1, 2, 3)
"""The first rank's rows are the longest, and the last step has too few rows of all."""
BACKWARDS = LENGTHS[::-1]
SITES = Norm(input=FRAME, recurrent=BatchNorm("frame", gamma=0.7, min_rows=3), cell=FRAME)


def has_statistics(norm: Any) -> bool:
    """Whether anything is batch-normalized, so that there is something to share."""
    found = resolve(norm, has_cell=True)
    return found is not None and any(isinstance(site, BatchNorm) for site in found.sites().values())


CASES = {
    **{
        f"{cell} {name}": Case(cell, norm)
        for cell in CLASSES
        for name, norm in norms_of(cell).items()
        if has_statistics(norm)
    },
    **{
        f"{cell} {name} of lengths": Case(cell, name, BACKWARDS)
        for cell in CLASSES
        for name in ("recurrent", "sequence-input", "summed")
    },
    "borrowed": Case("LSTM", SITES, LENGTHS),
    "input only": Case("GRU", "input-frame", BACKWARDS, options={"bidirectional": True}),
    "two layers of two directions": Case("LSTM", "sequence-input", LENGTHS, False, 2, {"bidirectional": True}),
    "packed": Case("GRU", "recurrent", LENGTHS, True, 2),
    "later steps": Case("RNN", "recurrent", call={"start_step": 3}),
    "longer than the table": Case("RNN", Norm(recurrent=BatchNorm(max_steps=3)), BACKWARDS),
    "projected": Case("LSTM", "recurrent", LENGTHS, options={"proj_size": 2, "zoneout": 0.2}),
    "float32 far from zero": Case("LSTM", "input-sequence", LENGTHS, options={"dtype": torch.float32}, offset=300),
}


def outcome(case: Case, rows: range, layer: Any) -> dict[str, Any]:
    """Results, gradients and tables of a call on some rows of the batch."""
    torch.manual_seed(0)
    layer.eval() if "zoneout" in case.options else layer.train()  # eval() zones out by expectation, without a draw
    lengths = [case.lengths[row] for row in rows] if case.lengths else [STEPS] * len(rows)
    steps = max(lengths, default=1)
    dtype = layer.weight_ih_l0.dtype
    x = (tensor(STEPS, ROWS, 3) + case.offset)[:steps, rows].to(dtype).requires_grad_()
    hx = tuple(s[:, rows].to(dtype).requires_grad_() for s in states(layer, ROWS))
    given: Any = x
    if case.packed and len(rows):
        given = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    with bnrnn.batch_statistics(layer) if not layer.training else torch.enable_grad():
        options = dict(case.call)
        if case.lengths and given is x:
            options["lengths"] = torch.tensor(lengths, dtype=torch.int64)
        output, final = call(layer, given, hx, **options)
    if case.packed and len(rows):
        output = pad_packed_sequence(output, total_length=steps)[0]
    valid = torch.arange(steps).unsqueeze(1) < torch.tensor(lengths, dtype=torch.int64)
    assert bool((output[~valid] == 0).all())
    size = output.shape[2]
    loss = (output * tensor(STEPS, ROWS, size, seed=7)[:steps, rows].to(dtype)).sum()
    for k, s in enumerate(final):
        loss = loss + (s * tensor(s.shape[0], ROWS, s.shape[2], seed=8 + k)[:, rows].to(dtype)).sum()
    loss.backward()
    return {
        "output": output.detach(),
        "final": [s.detach() for s in final],
        "grad_x": x.grad,
        "grad_hx": [s.grad for s in hx],
        "gradients": {name: p.grad for name, p in layer.named_parameters()},
        "tables": tables(layer),
    }


def shares(world: int) -> list[range]:
    ends = [sum(SHARES[world][: k + 1]) for k in range(world)]
    return [range(end - n, end) for end, n in zip(ends, SHARES[world], strict=True)]


def work(rank: int, world: int) -> dict[str, Any]:
    rows = shares(world)[rank]
    found = {name: outcome(case, rows, bnrnn.synchronize(case.layer())) for name, case in CASES.items()}
    found["masked"] = masked(rows, bnrnn.synchronize(masked_norm()))
    if world == 4:
        found["pairs"] = pairs(rank)
    else:
        found["refused"] = refused(rank)
        found["copied"] = copied()
        found["computed again"] = [computed_again(rows, layer, again) for again in (None, True, False)]
    return found


def masked_norm() -> Any:
    norm = bnrnn.MaskedBatchNorm(3, dtype=torch.float64)
    with torch.no_grad():
        norm.gamma.copy_(tensor(3, seed=1))
    return norm


def masked(rows: range, norm: Any) -> dict[str, Any]:
    x = tensor(STEPS, ROWS, 3)[:, rows].requires_grad_()
    output = norm(x, (tensor(STEPS, ROWS, seed=3) > -0.5)[:, rows])
    (output * tensor(STEPS, ROWS, 3, seed=2)[:, rows]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"output": output.detach(), "grad_x": x.grad, "gradients": gradients, "tables": tables(norm)}


def pairs(rank: int) -> Tensor:
    """Two processes of four share their rows, and the other two theirs."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    site = BatchNorm("frame", gamma=0.7, process_group=groups[rank // 2])
    layer = make("RNN", 3, 4, norm=Norm(input=site, recurrent=site))
    return layer(tensor(STEPS, ROWS, 3)[:, 2 * rank : 2 * rank + 2])[0].detach()


def layer() -> Any:
    return make("LSTM", 3, 4, norm="recurrent")


def computed_again(rows: range, make_layer: Any, reentrant: bool | None) -> dict[str, Any]:
    """Gradients and tables with a layer under activation checkpointing; None: without."""
    own = bnrnn.synchronize(make_layer())
    x = tensor(STEPS, ROWS, 3)[:, rows].requires_grad_()
    output = own(x)[0] if reentrant is None else checkpoint(lambda x: own(x)[0], x, use_reentrant=reentrant)
    (output * tensor(STEPS, ROWS, 4, seed=7)[:, rows]).sum().backward()
    return {"grad_x": x.grad, "gradients": [p.grad for p in own.parameters()], "tables": tables(own)}


def refused(rank: int) -> dict[str, str]:
    """What each process is told; none is left waiting for another."""
    own = bnrnn.synchronize(layer())
    x = tensor(STEPS, ROWS, 3)

    def message(work: Callable[[], Any]) -> str:
        with pytest.raises((ValueError, RuntimeError)) as error:
            work()
        return str(error.value)

    def twice() -> None:
        given = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(own(given)[0].square().sum(), given, create_graph=True)
        grad.sum().backward()

    named = bnrnn.synchronize(make("LSTM", 3, 4, norm="recurrent", backend="cpu"))
    return {
        "other calls": message(lambda: own(x, start_step=rank)),
        "too few": message(lambda: own(x[:, : 1 - rank])),
        "kernels": message(lambda: named(x)),
        "twice": message(twice),
    }


def copied() -> dict[str, Any]:
    """A copy has the group; a pickle cannot have it, but it can have the default group's name."""
    of_group, of_world = (bnrnn.synchronize(layer(), group) for group in (dist.group.WORLD, None))
    twin = copy.deepcopy(of_group)
    with pytest.raises(TypeError, match="ProcessGroup"):
        pickle.dumps(of_group)
    again = pickle.loads(pickle.dumps(of_world))
    groups = [module.norm_l0["input"].process_group is dist.group.WORLD for module in (twin, again)]
    return {"groups": groups, "repr": repr(again.norm_l0["input"])}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    folder = tmp_path_factory.mktemp("processes")
    return {world: processes.run(work, world, folder) for world in SHARES}


@pytest.fixture(params=SHARES)
def outcomes(request: pytest.FixtureRequest, found: dict[int, list[Any]]) -> list[Any]:
    return found[request.param]


@pytest.mark.parametrize("name", CASES)
def test_parts_equal_the_whole(name: str, outcomes: list[Any]) -> None:
    case, world = CASES[name], len(outcomes)
    layer, tolerance = case.layer(), 1e-10
    found = [outcomes[rank][name] for rank in range(world)]
    if case.offset:  # in float32, against float64: E[x^2] - E[x]^2 would leave nothing of it
        tolerance, found = 2e-3, [_double(part) for part in found]
    whole = outcome(case, range(ROWS), layer.double())
    for rows, part in zip(shares(world), found, strict=True):
        steps = part["output"].shape[0]
        close(part["output"], whole["output"][:steps, rows], tolerance)
        for key in ("final", "grad_hx"):
            for actual, expected in zip(part[key], whole[key], strict=True):
                close(actual, expected[:, rows], tolerance)
        close(part["grad_x"], whole["grad_x"][:steps, rows], tolerance)
        assert bool((whole["grad_x"][steps:, rows] == 0).all())
        for site, table in whole["tables"].items():
            for key, value in table.items():
                close(part["tables"][site][key], value, tolerance)
                assert torch.equal(part["tables"][site][key], found[0]["tables"][site][key])
    for parameter, expected in whole["gradients"].items():
        parts = [part["gradients"][parameter] for part in found]
        assert sum(p for p in parts if p is not None).shape == expected.shape
        close(sum(p for p in parts if p is not None), expected, tolerance * (10 if case.offset else 1))


@pytest.mark.parametrize("key", ["output", "grad_x"])
def test_a_masked_norm_over_processes(key: str, outcomes: list[Any]) -> None:
    whole = masked(range(ROWS), masked_norm())
    parts = [found["masked"] for found in outcomes]
    for rows, part in zip(shares(len(outcomes)), parts, strict=True):
        close(part[key], whole[key][:, rows])
        for name, value in whole["tables"][""].items():
            close(part["tables"][""][name], value)
    for name, expected in whole["gradients"].items():
        close(sum(part["gradients"][name] for part in parts), expected)


def test_a_group_of_some_processes(outcomes: list[Any]) -> None:
    if len(outcomes) == 2:
        assert "pairs" not in outcomes[0]
        return
    for first in (0, 2):
        site = BatchNorm("frame", gamma=0.7)
        whole = make("RNN", 3, 4, norm=Norm(input=site, recurrent=site))(tensor(STEPS, ROWS, 3)[:, 2 * first :][:, :4])
        close(torch.cat([outcomes[rank]["pairs"] for rank in (first, first + 1)], 1), whole[0])


TOLD = {
    "other calls": r"the processes of a group are in different calls: .* in the same way; start_step is \[0, 1\]$",
    "too few": r"expected more than 1 rows to take batch statistics of, got 1 in shape",
    "kernels": r"backend='cpu' cannot take this call: statistics over the processes of a group on site 'input'",
    "twice": r"differentiate twice",
}


@pytest.mark.parametrize("outcomes", [2], indirect=True)
@pytest.mark.parametrize("what", TOLD)
def test_all_processes_are_told(what: str, outcomes: list[Any]) -> None:
    for found in outcomes:
        assert re.search(TOLD[what], found["refused"][what]), found["refused"][what]


@pytest.mark.parametrize("outcomes", [2], indirect=True)
def test_copies_and_pickles(outcomes: list[Any]) -> None:
    for found in outcomes:
        assert found["copied"]["groups"] == [True, True]
        assert found["copied"]["repr"].endswith(", process_group='world')")


@pytest.mark.parametrize("outcomes", [2], indirect=True)
def test_what_is_computed_again_counts_once(outcomes: list[Any]) -> None:
    """Activation checkpointing: the statistics of both ways of it are those without."""
    for plain, *others in (found["computed again"] for found in outcomes):
        assert plain["tables"]["norm_l0.input"]["count"].tolist() == [1] * STEPS
        for other in others:
            close(other["grad_x"], plain["grad_x"])
            for actual, expected in zip(other["gradients"], plain["gradients"], strict=True):
                close(actual, expected)
            for site, table in plain["tables"].items():
                assert all(torch.equal(other["tables"][site][key], value) for key, value in table.items())


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_checkpointing_in_one_process(backend: str, reentrant: bool) -> None:
    own = make("GRU", 3, 4, norm="recurrent", backend=backend)
    x = tensor(STEPS, ROWS, 3).requires_grad_()
    checkpoint(lambda x: own(x)[0], x, use_reentrant=reentrant).sum().backward()
    assert own.norm_l0["input"].count[: STEPS + 1].tolist() == [1] * STEPS + [0]


def test_without_other_processes_it_is_the_plain_layer() -> None:
    own, plain = bnrnn.synchronize(layer()), layer()
    x = tensor(STEPS, ROWS, 3)
    assert torch.equal(own(x)[0], plain(x)[0])
    named = bnrnn.synchronize(make("LSTM", 3, 4, norm="recurrent", backend="cpu"))
    assert torch.equal(named(x)[0], plain(x)[0])


def test_synchronize_gives_every_site_the_group_and_the_model_back() -> None:
    model = torch.nn.ModuleList([layer(), bnrnn.MaskedBatchNorm(3), make("GRU", 3, 4, norm="layer"), layer()])
    assert bnrnn.synchronize(model) is model
    sites = [m for m in model.modules() if isinstance(m, bnrnn.nn.norm.Normalization)]
    found = [site.spec.process_group for site in sites if isinstance(site.spec, BatchNorm)]
    assert found == ["world"] * 7
    assert BatchNorm(process_group="world") != BatchNorm()


@pytest.mark.parametrize("group", ["all", 0, object()])
def test_no_process_group(group: Any, unchecked: None) -> None:
    for work in (lambda: BatchNorm(process_group=group), lambda: bnrnn.synchronize(layer(), group)):
        with pytest.raises(TypeError, match=r"process_group must be None, 'world' or a torch\.distributed"):
            work()
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        bnrnn.synchronize(3)  # type: ignore[type-var]


def _double(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.double() if found.is_floating_point() else found
    if isinstance(found, dict):
        return {key: _double(value) for key, value in found.items()}
    return [_double(value) for value in found] if isinstance(found, list) else found
