"""Saving and loading: also tables that have grown, also into a layer built afresh or of another table length."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

import bnrnn
from bnrnn import BatchNorm, Norm
from build import call, close, make, tables, tensor


def trained(cell: str = "LSTM", norm: Any = "recurrent", **options: Any) -> Any:
    """A layer whose tables have grown to five rows, the last two seen once."""
    layer = make(cell, 3, 4, 2, norm=norm, bidirectional=True, **options)
    for steps in (3, 5):
        call(layer, tensor(steps, 6, 3, seed=steps))
    return layer


def fresh(cell: str = "LSTM", norm: Any = "recurrent", **options: Any) -> Any:
    return make(cell, 3, 4, 2, norm=norm, bidirectional=True, seed=1, **options)


def equal(actual: Any, expected: Any, steps: int = 7) -> None:
    """The same numbers, in evaluation and in the next training step, and the same tables after it."""
    x = tensor(steps, 4, 3, seed=9)
    for training in (False, True):
        close(call(actual.train(training), x)[0], call(expected.train(training), x)[0], 0)
    for name, own in tables(expected).items():
        for key, value in own.items():
            close(tables(actual)[name][key], value, 0)


def through_pickle(layer: Any) -> Any:
    return pickle.loads(pickle.dumps(layer))


def through_torch_save(layer: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", [None, "recurrent", "sequence-input", "layer"])
@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_torch_save])
def test_copies_of_the_layer(cell: str, norm: str | None, copied: Callable[[Any], Any]) -> None:
    layer = trained(cell, norm, zoneout=0.1)
    other = copied(layer)
    assert repr(other) == repr(layer)
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        assert p is not q
        close(q, p, 0)
    layer._zoneout = other._zoneout = (0.0,) * len(layer._zoneout)
    equal(other, layer)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
    assert other.weight_ih_l0.abs().max() > 0


def test_a_copy_shares_no_table() -> None:
    layer = trained()
    other = copy.deepcopy(layer)
    before = tables(other)
    call(layer, tensor(5, 6, 3, seed=8))
    for name, own in tables(other).items():
        for key, value in own.items():
            close(value, before[name][key], 0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["recurrent", "input-sequence", "sequence-input", "layer"])
@pytest.mark.parametrize("assign", [False, True])
def test_a_grown_state_dict_into_a_fresh_layer(cell: str, norm: str, assign: bool) -> None:
    layer, other = trained(cell, norm), fresh(cell, norm)
    result = other.load_state_dict(copy.deepcopy(layer.state_dict()), assign=assign)
    assert not result.missing_keys
    assert not result.unexpected_keys
    equal(other, layer)


def test_a_state_dict_through_a_file_without_pickled_code(tmp_path: Path) -> None:
    layer, other = trained(), fresh()
    torch.save(layer.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    equal(other, layer)


def test_safetensors(tmp_path: Path) -> None:
    layer, other, third = trained(), fresh(), fresh()
    save_file(layer.state_dict(), tmp_path / "state.safetensors")
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    equal(other, layer)
    save_model(layer, str(tmp_path / "model.safetensors"))
    assert load_model(third, str(tmp_path / "model.safetensors")) == (set(), [])
    equal(third, layer)


def test_a_shorter_table_replaces_a_longer_one() -> None:
    layer, other = trained(), fresh()
    call(other, tensor(9, 4, 3))
    assert other.norm_l0["input"].rows_in_use == 9
    other.load_state_dict(layer.state_dict())
    assert other.norm_l0["input"].rows_in_use == 5
    equal(other, layer)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("steps", [5, 64, 100])
def test_a_table_of_exactly_the_steps_goes_on_bit_for_bit(cell: str, steps: int) -> None:
    """What was saved when a table had as many rows as the longest sequence, none of them empty."""
    layer = make(cell, 3, 4, 2, norm="sequence-input", bidirectional=True)
    for k in range(2):
        call(layer, tensor(steps, 6, 3, seed=k))
    old = layer.state_dict()
    for name, module in layer.named_modules():
        if hasattr(module, "count"):
            for key in ("mean", "var", "count"):
                old[f"{name}.{key}"] = old[f"{name}.{key}"][: module.rows_in_use].clone()
    other = make(cell, 3, 4, 2, norm="sequence-input", bidirectional=True, seed=1)
    other.load_state_dict(old)
    equal(other, layer, steps)
    equal(other, layer, steps + 70)


def norm(max_steps: int | None) -> Norm:
    site = BatchNorm(max_steps=max_steps)
    return Norm(input=site, recurrent=site, cell=BatchNorm())


@pytest.mark.parametrize(("saved", "loaded"), [(None, 8), (None, 3), (8, None), (3, 8), (8, 3), (5, 5), (2, 5)])
def test_tables_of_another_length(saved: int | None, loaded: int | None) -> None:
    """A longer table is cut, a shorter one goes on with its last row; evaluation up to the shorter end agrees."""
    layer, other = trained(norm=norm(saved)), fresh(norm=norm(loaded))
    other.load_state_dict(layer.state_dict())
    source = tables(layer)["norm_l0.recurrent"]
    target = {key: getattr(other.norm_l0["recurrent"], key) for key in source}
    rows = loaded or 64
    assert len(target["count"]) == rows
    shared = min(rows, len(source["count"]))
    for key in ("mean", "var", "count"):
        close(target[key][:shared], source[key][:shared], 0)
    for key in ("mean", "var"):
        close(target[key][shared:], source[key][-1:].expand(rows - shared, -1), 0)
    assert target["count"][shared:].tolist() == [0] * (rows - shared)
    steps = 12 if shared == len(source["count"]) else shared
    x = tensor(steps, 4, 3)
    # The reverse direction's table is by its own steps too, so whole sequences up to that length agree.
    close(call(other.eval(), x)[0], call(layer.eval(), x)[0], 0)


@pytest.mark.parametrize("loaded", [None, 4])
def test_an_unset_table_unsets(loaded: int | None) -> None:
    other = trained(norm=norm(loaded))
    other.load_state_dict(fresh(norm=norm(None)).state_dict())
    with pytest.warns(UserWarning, match="never set"):
        call(other.eval(), tensor(2, 4, 3))
    reference = fresh(norm=norm(loaded))
    x = tensor(3, 4, 3)
    close(call(other.train(), x)[0], call(reference, x)[0], 0)
    for name, own in tables(reference).items():
        for key, value in own.items():
            close(tables(other)[name][key], value, 0)


def test_keys_and_shapes_of_the_state_dict() -> None:
    state = trained(norm="recurrent").state_dict()
    expected = {
        f"{name}_l{layer}{end}"
        for name in ("weight_ih", "weight_hh", "bias_ih")
        for layer in (0, 1)
        for end in ("", "_reverse")
    }
    for layer in (0, 1):
        for end in ("", "_reverse"):
            for site in ("input", "recurrent", "cell"):
                expected |= {f"norm_l{layer}{end}.{site}.{key}" for key in ("gamma", "mean", "var", "count")}
            expected.add(f"norm_l{layer}{end}.cell.beta")
    assert set(state) == expected
    assert state["norm_l0.recurrent.mean"].shape == (64, 16)
    assert state["norm_l1_reverse.cell.var"].shape == (64, 4)
    assert state["norm_l0.input.count"].tolist() == [2, 2, 2, 1, 1] + [0] * 59
    assert state["norm_l0.input.count"].dtype == torch.int64


def test_a_state_dict_that_does_not_fit_is_refused() -> None:
    layer = fresh()
    call(layer, tensor(3, 4, 3))
    before = tables(layer)
    other_size = make("LSTM", 3, 7, 2, norm="recurrent", bidirectional=True)
    call(other_size, tensor(6, 4, 3))
    with pytest.raises(RuntimeError, match=r"size mismatch for norm_l0.recurrent.mean"):
        layer.load_state_dict(other_size.state_dict())
    for name, own in tables(layer).items():
        for key in ("mean", "var"):
            close(own[key], before[name][key], 0)
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.endswith("mean")})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        fresh(norm="layer").load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict(nn.LSTM(3, 4, 2, bidirectional=True).state_dict())


def test_partial_loading_of_torch_weights() -> None:
    """``strict=False`` takes a torch.nn layer's weights and leaves the norms."""
    layer = trained()
    before = tables(layer)
    theirs = nn.LSTM(3, 4, 2, bidirectional=True, dtype=torch.float64)
    layer.load_state_dict(theirs.state_dict(), strict=False)
    close(layer.weight_hh_l1_reverse, theirs.weight_hh_l1_reverse, 0)
    for name, own in tables(layer).items():
        for key, value in own.items():
            close(value, before[name][key], 0)


def test_within_a_larger_model() -> None:
    model = nn.ModuleDict({"rnn": trained("GRU"), "out": nn.Linear(8, 2, dtype=torch.float64)})
    other = nn.ModuleDict({"rnn": fresh("GRU"), "out": nn.Linear(8, 2, dtype=torch.float64)})
    other.load_state_dict(model.state_dict())
    equal(other["rnn"], model["rnn"])


def test_loading_precision() -> None:
    """float64 tables into a float32 layer and back: each layer keeps its own dtype."""
    layer, other = trained(), fresh(dtype=torch.float32)
    other.load_state_dict(layer.state_dict())
    own = other.norm_l0["input"]
    assert own.mean.dtype == own.var.dtype == torch.float32
    close(own.mean, layer.norm_l0["input"].mean.float(), 0)


def test_optimizer_state_goes_on() -> None:
    """A checkpoint of layer and optimizer taken between two steps gives bit for bit the undisturbed run."""
    runs = []
    for interrupted in (False, True):
        layer = fresh("LSTM")
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        for step in range(4):
            optimizer.zero_grad()
            call(layer, tensor(step + 2, 5, 3, seed=step))[0].square().mean().backward()
            optimizer.step()
            if interrupted and step == 1:
                saved = copy.deepcopy((layer.state_dict(), optimizer.state_dict()))
                layer = make("LSTM", 3, 4, 2, norm="recurrent", bidirectional=True, seed=7)
                layer.load_state_dict(saved[0])
                optimizer = torch.optim.Adam(layer.parameters(), 0.5)
                optimizer.load_state_dict(saved[1])
        runs.append(layer.state_dict())
    for name, value in runs[0].items():
        assert torch.equal(runs[1][name], value), name


def test_repr_tells_the_norm() -> None:
    layer = bnrnn.LSTM(3, 4, 2, proj_size=2, bidirectional=True, norm="recurrent", zoneout=0.1, bias=False)
    text = repr(layer)
    for part in (
        "LSTM(",
        "3, 4",
        "num_layers=2",
        "proj_size=2",
        "bidirectional=True",
        "bias=False",
        "gamma=0.1",
        "frame",
    ):
        assert part in text
    assert "dropout" not in repr(bnrnn.GRU(3, 4))
    assert "backend='reference'" in repr(bnrnn.RNN(3, 4, backend="reference"))
