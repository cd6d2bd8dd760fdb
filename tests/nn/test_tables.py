"""The tables of population statistics among other programs: loading, growing, averaging, copying, sharing."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, stack_module_state, vmap

import bnrnn
from bnrnn import BatchNorm, Norm, batch_statistics, estimate_population_statistics
from build import call, close, make, tables, tensor

SCRIPT = Path(__file__).with_name("misfits.py")
CELLS = ["LSTM", "GRU", "RNN"]


@pytest.mark.parametrize("function", ["wrong_tensors", "missing", "other_layers", "other_forms"])
@pytest.mark.parametrize("cell", CELLS)
def test_statistics_that_do_not_fit(cell: str, function: str) -> None:
    """In a process of its own: what a kernel writes past the end of a table may end it."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), cell, function],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Growing


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("steps", "rows"), [(1, 64), (64, 64), (65, 128), (129, 256)])
def test_the_table_doubles(cell: str, steps: int, rows: int) -> None:
    """The same tensors, longer; what was in them stays; rows beyond those in use hold the last one's."""
    layer = make(cell, 3, 4, norm="recurrent")
    call(layer, tensor(3, 5, 3))
    before = tables(layer)
    buffers = dict(layer.named_buffers())
    other = make(cell, 3, 4, norm=Norm(**{n: BatchNorm(max_steps=steps) for n in layer.norm.sites()}))
    call(other, tensor(3, 5, 3))
    x = tensor(steps, 5, 3, seed=1)
    assert torch.equal(call(layer, x)[0], call(other, x)[0])
    for name, module in layer.named_modules():
        if not hasattr(module, "count"):
            continue
        assert module.mean.shape[0] == module.var.shape[0] == module.count.shape[0] == rows
        expected = tables(other)[name]
        used = module.rows_in_use
        assert used == max(steps, 3)
        close(module.mean[:steps], expected["mean"][:steps], 0)
        close(module.var[:steps], expected["var"][:steps], 0)
        assert module.count[:steps].tolist() == expected["count"][:steps].tolist()
        close(module.mean[steps:3], before[name]["mean"][steps:], 0)
        close(module.mean[used:], module.mean[used - 1 : used].expand(rows - used, -1), 0)
        close(module.var[used:], module.var[used - 1 : used].expand(rows - used, -1), 0)
        assert not module.count[used:].any()
    for name, buffer in layer.named_buffers():
        assert buffer is buffers[name]


def test_a_late_chunk_makes_room_for_itself() -> None:
    layer = make("RNN", 3, 4, norm="input-frame")
    layer(tensor(2, 5, 3), start_step=200)
    site = layer.norm_l0["input"]
    assert (len(site.count), site.rows_in_use) == (256, 202)
    close(site.mean[:200], site.mean[200:201].expand(200, -1), 0)
    close(site.mean[202:], site.mean[201:202].expand(54, -1), 0)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_of_models(use_buffers: bool) -> None:
    """Sequences of 3 and then of 5 steps: the buffers keep their shape."""
    layer = make("LSTM", 3, 4, norm="recurrent")
    average = torch.optim.swa_utils.AveragedModel(layer, use_buffers=use_buffers)
    kept = []
    for steps in (3, 5):
        call(layer, tensor(steps, 5, 3, seed=steps))
        average.update_parameters(layer)
        kept.append(layer.norm_l0["cell"].mean.clone())
    own = average.module.norm_l0["cell"]
    close(own.mean, (kept[0] + kept[1]) / 2 if use_buffers else kept[1], 1e-12)
    assert own.rows_in_use >= 3
    assert call(average.module.eval(), tensor(9, 2, 3))[0].isfinite().all()


def test_an_exponential_average_of_the_state_dict() -> None:
    layer = make("GRU", 3, 4, norm="recurrent")
    average = {name: value.clone() for name, value in layer.state_dict().items()}
    for steps in (3, 64, 5):
        call(layer, tensor(steps, 5, 3, seed=steps))
        for name, value in layer.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 0.1)
            else:
                average[name].copy_(value)
    layer.load_state_dict(average)
    assert call(layer.eval(), tensor(9, 2, 3))[0].isfinite().all()


def test_update_bn_of_torch_knows_only_its_own_layers() -> None:
    """It does nothing, silently: :func:`bnrnn.estimate_population_statistics` is what to call instead."""
    layer = make("RNN", 3, 4, norm="recurrent")
    torch.optim.swa_utils.update_bn([tensor(4, 5, 3)], layer)
    assert tables(layer)["norm_l0.input"]["count"].tolist() == []
    estimate_population_statistics(layer, [tensor(4, 5, 3)])
    assert tables(layer)["norm_l0.input"]["count"].tolist() == [1] * 4


@pytest.mark.parametrize("steps", [5, 70])
def test_rows_within_functional_call_reach_the_given_tensors(steps: int) -> None:
    layer, other = make("LSTM", 3, 4, norm="recurrent"), make("LSTM", 3, 4, norm="recurrent")
    given = {name: value.clone() for name, value in layer.named_buffers()}
    functional_call(layer, given, (tensor(steps, 5, 3),))
    call(other, tensor(steps, 5, 3))
    for name, value in other.named_buffers():
        close(given[name], value, 0)
    assert not layer.norm_l0["cell"].count.any()
    functional_call(layer, dict(layer.named_buffers()), (tensor(steps, 5, 3),))
    for name, value in other.named_buffers():
        close(layer.get_buffer(name), value, 0)


def test_shared_memory_sees_rows_within_the_table_and_a_warning_tells_of_growth() -> None:
    layer = make("LSTM", 3, 4, norm="recurrent").share_memory()
    # What another process opens: the same memory.
    views = {name: torch.empty(0, dtype=b.dtype).set_(b.untyped_storage()) for name, b in layer.named_buffers()}
    call(layer, tensor(40, 5, 3))
    for name, buffer in layer.named_buffers():
        close(views[name].view_as(buffer), buffer, 0)
    with pytest.warns(UserWarning, match=r"BatchNorm\(max_steps=\.\.\.\)") as caught:
        call(layer, tensor(65, 5, 3))
    assert len(caught) == 1
    bounded = Norm(**{name: BatchNorm(max_steps=80) for name in layer.norm.sites()})
    call(make("LSTM", 3, 4, norm=bounded).share_memory(), tensor(90, 5, 3))


def test_growth_among_distributed_processes_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    layer = make("LSTM", 3, 4, 2, norm="recurrent", bidirectional=True)
    buffers = dict(layer.named_buffers())
    call(layer, tensor(64, 5, 3))
    with pytest.warns(UserWarning, match=r"DistributedDataParallel.*BatchNorm\(max_steps=\.\.\.\)") as caught:
        call(layer, tensor(65, 5, 3))
    assert len(caught) == 1
    assert {len(buffer) for buffer in buffers.values()} == {64}  # what is exchanged keeps its shape
    assert layer.norm_l1["cell"].rows_in_use == 65


# Values that cannot be looked at


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent", "sequence-input", "layer"])
@pytest.mark.parametrize("training", [True, False])
def test_on_meta_and_on_fake_tensors(cell: str, norm: str | None, training: bool) -> None:
    layer = make(cell, 3, 4, 2, norm=norm, bidirectional=True, dtype=torch.float32, device="meta").train(training)
    assert call(layer, torch.zeros(70, 5, 3, device="meta"))[0].shape == (70, 5, 8)
    assert call(layer, torch.zeros(6, 5, device="meta", dtype=torch.int64))[0].shape == (6, 5, 8)
    with FakeTensorMode():
        layer = getattr(bnrnn, cell)(3, 4, 2, norm=norm, bidirectional=True).train(training)
        assert call(layer, torch.zeros(7, 5, 3))[0].shape == (7, 5, 8)
        assert call(layer, torch.zeros(7, 5, dtype=torch.int64))[0].shape == (7, 5, 8)
    layer = make(cell, 3, 4, norm=norm, statistics=2, dtype=torch.float32).train(training)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert call(layer.eval(), torch.zeros(7, 5, 3))[0].shape == (7, 5, 4)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [None, "recurrent", "sequence-input", "layer"])
def test_an_ensemble_by_vmap(cell: str, norm: str | None) -> None:
    layers = [make(cell, 3, 4, 2, norm=norm, bidirectional=True, statistics=3, seed=k).eval() for k in range(3)]
    parameters, buffers = stack_module_state(layers)
    base, x = copy.deepcopy(layers[0]).to("meta"), tensor(5, 4, 3)
    output = vmap(lambda p, b: functional_call(base, (p, b), (x,))[0])(parameters, buffers)
    close(output, torch.stack([call(layer, x)[0] for layer in layers]))


# Which statistics serve


def makes_a_copy(model: nn.Module, how: str) -> Any:
    return copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_made_inside_of_a_context_is_outside_of_it(how: str) -> None:
    layer = make("GRU", 3, 4, 2, norm="recurrent", statistics=3).eval()
    x = tensor(5, 4, 3)
    population, _ = call(layer, x)
    with batch_statistics(layer):
        own, _ = call(layer, x)
        other = makes_a_copy(layer, how)
        close(call(other, x)[0], population, 0)
        close(call(layer, x)[0], own, 0)
    close(call(other, x)[0], population, 0)
    with batch_statistics(other):
        close(call(other, x)[0], own, 0)
        close(call(layer, x)[0], population, 0)
    copies: list[Any] = []

    class Batches:
        def __iter__(self) -> Any:
            yield x
            copies.append(makes_a_copy(layer, how))
            yield x

    estimate_population_statistics(layer, Batches())
    before = tables(copies[0])
    call(copies[0], x)
    for name, table in tables(copies[0]).items():
        close(table["mean"], before[name]["mean"], 0)


def test_contexts_that_overlap() -> None:
    """Left in the order in which they were entered, as two generators may."""
    layer = make("GRU", 3, 4, norm="recurrent", statistics=3).eval()
    x = tensor(5, 4, 3)
    population, _ = call(layer, x)
    first, second = batch_statistics(layer), batch_statistics(layer)
    first.__enter__()
    own, _ = call(layer, x)
    second.__enter__()
    first.__exit__(None, None, None)
    close(call(layer, x)[0], own, 0)
    second.__exit__(None, None, None)
    close(call(layer, x)[0], population, 0)


@pytest.mark.parametrize("steps", [5, 70])
def test_inference_mode_leaves_tables_that_training_can_write(steps: int) -> None:
    layer = make("LSTM", 3, 4, norm="recurrent")
    other = make("LSTM", 3, 4, norm="recurrent")
    with torch.inference_mode():
        call(layer, tensor(steps, 5, 3))
        estimate_population_statistics(layer, [tensor(steps, 5, 3)])
        layer.norm_l0["input"].reset_statistics()
    estimate_population_statistics(other, [tensor(steps, 5, 3)])
    other.norm_l0["input"].reset_statistics()
    for model in (layer, other):
        call(model, tensor(steps, 5, 3, seed=1))[0].sum().backward()
    for name, own in tables(other).items():
        for key, value in own.items():
            close(tables(layer)[name][key], value, 0)


def test_estimation_leaves_the_tensors_where_they_are() -> None:
    layer = make("LSTM", 3, 4, norm="recurrent")
    buffers = dict(layer.named_buffers())
    estimate_population_statistics(layer, [tensor(5, 6, 3), tensor(70, 6, 3)])
    with pytest.raises(ValueError, match="input must have shape"):
        estimate_population_statistics(layer, [tensor(5, 6, 3), tensor(70, 6, 2)])
    for name, buffer in layer.named_buffers():
        assert buffer is buffers[name]
    assert layer.norm_l0["cell"].count[:71].tolist() == [2] * 5 + [1] * 65 + [0]


def test_counts_stay_integers_whatever_the_module_becomes() -> None:
    layer = make("LSTM", 3, 4, norm="recurrent", statistics=3)
    layer.type(torch.float32)
    site = layer.norm_l0["input"]
    assert site.count.dtype == torch.int64
    assert site.mean.dtype == torch.float32
    layer.half()
    assert (site.count.dtype, site.mean.dtype, site.gamma.dtype) == (torch.int64, torch.float32, torch.float16)
