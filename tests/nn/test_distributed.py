"""DistributedDataParallel over two processes: gradients, statistics, and two forwards before a backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bnrnn import BatchNorm, Norm
from build import call, close, make, tables, tensor

STEPS = (3, 5)
CASES = [(True, 4), (False, 4), (True, None), (False, None)]


def norm(max_steps: int | None) -> Norm:
    site = BatchNorm(max_steps=max_steps)
    return Norm(input=site, recurrent=site, cell=site)


def data(rank: int, which: int) -> Tensor:
    return tensor(STEPS[which], 6, 3, seed=10 * rank + which)


class Model(nn.Module):
    def __init__(self, max_steps: int | None) -> None:
        super().__init__()
        self.rnn = make("LSTM", 3, 4, 2, norm=norm(max_steps), bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return call(self.rnn, x)[0]


def loss(output: Tensor) -> Tensor:
    return (output * tensor(*output.shape, seed=99)).sum()


def work(rank: int, folder: str) -> None:
    """What each process does: two steps, the second with two forwards before its backward."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for broadcast_buffers, max_steps in CASES:
        model = nn.parallel.DistributedDataParallel(Model(max_steps), broadcast_buffers=broadcast_buffers)
        loss(model(data(rank, 0))).backward()
        first = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        (loss(model(data(rank, 0))) + loss(model(data(rank, 1)))).backward()
        second = [p.grad.clone() for p in model.parameters()]
        torch.save((first, second, tables(model.module)), f"{folder}/{broadcast_buffers}{max_steps}{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two processes have left their gradients and statistics."""
    path = tmp_path_factory.mktemp("two_processes")
    torch.multiprocessing.spawn(work, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize(("broadcast_buffers", "max_steps"), CASES)
def test_two_processes(broadcast_buffers: bool, max_steps: int | None, folder: Path) -> None:
    names = [f"{broadcast_buffers}{max_steps}{rank}" for rank in range(2)]
    outcomes: list[Any] = [torch.load(folder / name, weights_only=True) for name in names]

    def alone(which: tuple[int, ...]) -> list[Tensor]:
        """Each process takes its own rows' statistics; DDP averages the gradients."""
        gradients = []
        for rank in range(2):
            model = Model(max_steps)
            sum(loss(model(data(rank, k))) for k in which).backward()
            gradients.append([p.grad for p in model.parameters()])
        return [(a + b) / 2 for a, b in zip(*gradients, strict=True)]

    for step, which in enumerate(((0,), (0, 1))):
        for rank in range(2):
            for actual, expected in zip(outcomes[rank][step], alone(which), strict=True):
                close(actual, expected)

    # Buffers: before each forward those of process 0 are given to all, or each process keeps its own.
    own = []
    for rank in range(2):
        model, lead = Model(max_steps), Model(max_steps)
        for which in (0, 0, 1):
            if broadcast_buffers:
                model.load_state_dict(lead.state_dict())
            model(data(rank, which))
            lead(data(0, which))
        own.append(tables(model))
    for rank in range(2):
        for name, expected in own[rank].items():
            for key, value in expected.items():
                close(outcomes[rank][2][name][key], value)
    assert own[0]["rnn.norm_l0.input"]["count"].tolist() == [3, 3, 3, 1, 1][:max_steps]
