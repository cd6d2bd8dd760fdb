"""Synchronized layers under torch's own ways to train in several processes, and estimation over processes."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import bnrnn
import processes
from bnrnn import BatchNorm, Norm
from build import call, close, make, tables, tensor

WORLD, STEPS, ROWS, LONG = 2, 4, 7, 70
PARTS = (slice(0, 5), slice(5, ROWS))


class Model(nn.Module):
    """Two directions of two layers, and a read-out, so that there is more to wait for than one layer."""

    def __init__(self, norm: Any = "recurrent", cell: str = "LSTM") -> None:
        super().__init__()
        self.rnn = make(cell, 3, 4, 2, norm=norm, bidirectional=True)
        self.readout = nn.Linear(8, 2, dtype=torch.float64)
        with torch.no_grad():
            self.readout.weight.copy_(tensor(2, 8, seed=5))
            self.readout.bias.zero_()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.readout(call(self.rnn, x, lengths=lengths)[0])


def loss(output: Tensor, rows: slice) -> Tensor:
    return (output * tensor(LONG, ROWS, 2, seed=99)[: len(output), rows]).sum()


def batch(which: int, steps: int = STEPS) -> Tensor:
    return tensor(steps, ROWS, 3, seed=which)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    return {name: (g.full_tensor() if hasattr(g, "full_tensor") else g).clone() for name, g in found.items()}


DDP = {
    f"{broadcast} {static}": {"broadcast_buffers": broadcast, "static_graph": static}
    for broadcast in (True, False)
    for static in (True, False)
}


def under_ddp(rank: int, options: dict[str, Any]) -> dict[str, Any]:
    """Two updates, the second of two batches of which the first waits, then a batch beyond the table's end."""
    model = DistributedDataParallel(bnrnn.synchronize(Model()), **options)
    found = []
    for together in ((0,), (1, 2)):
        model.zero_grad()
        for which in together:
            with model.no_sync() if which != together[-1] else nullcontext():
                loss(model(batch(which)[:, PARTS[rank]]), PARTS[rank]).backward()
        found.append(gradients(model))
    model(batch(3, LONG)[:, PARTS[rank]])
    return {"gradients": found, "tables": tables(model.module)}


def sharded(rank: int, synchronized: bool) -> dict[str, Any]:
    model = Model()
    if synchronized:
        bnrnn.synchronize(model)
    mesh = torch.distributed.init_device_mesh("cpu", (WORLD,))
    fully_shard(model.rnn, mesh=mesh)
    fully_shard(model, mesh=mesh)
    rows = PARTS[rank] if synchronized else slice(0, 4)
    output = model(batch(0)[:, rows])
    loss(output, rows).backward()
    return {"output": output.detach(), "gradients": gradients(model), "tables": tables(model)}


BATCHES = (("a", 3, STEPS), ("b", 4, LONG), ("c", 2, 2), ("d", 2, STEPS))
"""Seed, rows and steps; the second is beyond the table's end."""
DEALT = {"uneven": (("a", "b", "c"), ("d",)), "none": (("a", "b", "c", "d"), ())}


def given(names: Any) -> Iterator[Tensor]:
    yield from (tensor(steps, rows, 3, seed=ord(name)) for name, rows, steps in BATCHES if name in names)


def estimated(rank: int, dealt: Any, group: Any) -> dict[str, Any]:
    model = Model(MIXED)
    with nullcontext() if group or rank else pytest.warns(UserWarning, match="have grown to longer tables"):
        bnrnn.estimate_population_statistics(model, given(dealt[rank]), group)
    return tables(model)


def estimated_together(rank: int) -> dict[str, Any]:
    model = bnrnn.synchronize(Model(MIXED))
    bnrnn.estimate_population_statistics(model, (batch(k)[:, PARTS[rank]] for k in range(3)), "world")
    return tables(model)


def failed(rank: int) -> tuple[str, bool]:
    """The pass of the second process fails: what each is told, and whether its tables are as before."""
    model = Model()
    model(batch(0))
    before = copy.deepcopy(tables(model))
    batches = [batch(1), "text"] if rank else [batch(1)]
    with pytest.raises((RuntimeError, TypeError)) as error:
        bnrnn.estimate_population_statistics(model, batches, "world")
    after = tables(model)
    same = all(torch.equal(value, after[site][key]) for site, table in before.items() for key, value in table.items())
    with pytest.raises(ValueError, match="batches: it was empty"):
        bnrnn.estimate_population_statistics(model, [], "world")
    return str(error.value), same


MIXED = Norm(input=BatchNorm("sequence"), recurrent=BatchNorm(momentum=None), cell=BatchNorm(max_steps=3))


def work(rank: int, world: int) -> dict[str, Any]:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # of the read-out
    return {
        **{name: under_ddp(rank, options) for name, options in DDP.items()},
        "sharded": [sharded(rank, synchronized) for synchronized in (True, False)],
        "estimated": {name: estimated(rank, dealt, "world") for name, dealt in DEALT.items()},
        "alone": estimated(rank, DEALT["uneven"], None),
        "together": estimated_together(rank),
        "failed": failed(rank),
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return processes.run(work, WORLD, tmp_path_factory.mktemp("clients"))


def same_tables(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for site, table in expected.items():
        for key, value in table.items():
            close(found[site][key], value)


@pytest.mark.parametrize("name", DDP)
def test_ddp(name: str, outcomes: list[Any]) -> None:
    """DDP averages the gradients; their sum is that of one process with all rows."""
    model = Model()
    for step, together in enumerate(((0,), (1, 2))):
        model.zero_grad()
        for which in together:
            loss(model(batch(which)), slice(None)).backward()
        for found in outcomes:
            for parameter, expected in gradients(model).items():
                close(WORLD * found[name]["gradients"][step][parameter], expected)
    model(batch(3, LONG))
    assert model.rnn.norm_l0.input.count.tolist() == [4] * STEPS + [1] * (LONG - STEPS) + [0] * (128 - LONG)
    for found in outcomes:
        same_tables(found[name]["tables"], tables(model))


def test_fully_sharded(outcomes: list[Any]) -> None:
    """FSDP2 averages the gradients as well; a layer that is not synchronized runs on its kernels."""
    for k, rows in enumerate((slice(None), slice(0, 4))):
        model = Model()
        output = model(batch(0)[:, rows])
        loss(output, rows).backward()
        for found, own in zip(outcomes, PARTS if k == 0 else (rows, rows), strict=True):
            close(found["sharded"][k]["output"], output[:, own])
            same_tables(found["sharded"][k]["tables"], tables(model))
            for parameter, expected in gradients(model).items():
                close((WORLD if k == 0 else 1) * found["sharded"][k]["gradients"][parameter], expected)


@pytest.mark.parametrize("dealt", DEALT)
def test_estimation_over_processes(dealt: str, outcomes: list[Any]) -> None:
    model = Model(MIXED)
    bnrnn.estimate_population_statistics(model, given("abcd"))
    for found in outcomes:
        same_tables(found["estimated"][dealt], tables(model))
    assert tables(model)["rnn.norm_l0.recurrent"]["count"].tolist() == [4, 4, 3, 3] + [1] * (LONG - STEPS)


def test_estimation_without_a_group_is_each_process_own(outcomes: list[Any]) -> None:
    for names, found in zip(DEALT["uneven"], outcomes, strict=True):
        model = Model(MIXED)
        bnrnn.estimate_population_statistics(model, given(names))
        same_tables(found["alone"], tables(model))


def test_estimation_of_synchronized_layers(outcomes: list[Any]) -> None:
    """Each batch is that of all processes, and counts once."""
    model = Model(MIXED)
    bnrnn.estimate_population_statistics(model, map(batch, range(3)))
    for found in outcomes:
        same_tables(found["together"], tables(model))


def test_an_error_in_one_process_is_one_in_all(outcomes: list[Any]) -> None:
    told = [r"process_group: its process 1 had an error in this pass", r"batches: each must be a tensor"]
    for found, message in zip(outcomes, told, strict=True):
        assert re.search(message, found["failed"][0])
        assert found["failed"][1]


def test_estimation_needs_a_group(unchecked: None) -> None:
    with pytest.raises(TypeError, match=r"process_group must be None, 'world' or a torch\.distributed"):
        bnrnn.estimate_population_statistics(Model(), [batch(0)], "all")
