"""Population statistics: averages, the table of steps, who uses which, and their estimation over a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import bnrnn
from bnrnn import BatchNorm, Norm, batch_statistics, estimate_population_statistics
from bnrnn.nn.norm.table import Table
from bnrnn.ops.recurrence import recur
from build import CLASSES, call, close, make, numpy_call, states, tables, tensor

INPUT = "norm_l0.input"


def input_layer(**options: Any) -> Any:
    """An RNN normalized at the input alone: its statistics are those of ``W x_t``, whatever the recurrence does."""
    return make("RNN", 3, 4, norm=Norm(input=BatchNorm(**options)))


def products(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the batch at each step."""
    wx = x @ layer.weight_ih_l0.detach().T
    return wx.mean(1), wx.var(1, unbiased=False)


def batches(count: int, steps: int = 3) -> list[Tensor]:
    return [tensor(steps, 5, 3, seed=k) + k for k in range(count)]


@pytest.mark.parametrize("momentum", [0.1, 0.3, 1.0, None])
def test_running_averages_by_hand(momentum: float | None) -> None:
    """The plain mean of the first 1 / momentum batches, exponential from then on; None: always the plain mean."""
    layer = input_layer(momentum=momentum)
    means, variances = zip(*(products(layer, x) for x in batches(6)), strict=True)
    mean, var = torch.zeros(3, 4).double(), torch.ones(3, 4).double()
    for k, x in enumerate(batches(6)):
        layer(x)
        weight = 1 / (k + 1) if momentum is None else max(1 / (k + 1), momentum)
        mean, var = (1 - weight) * mean + weight * means[k], (1 - weight) * var + weight * variances[k]
        own = tables(layer)[INPUT]
        close(own["mean"], mean)
        close(own["var"], var)
        assert own["count"].tolist() == [k + 1] * 3
    if momentum is None:
        close(own["mean"], torch.stack(means).mean(0))
        close(own["var"], torch.stack(variances).mean(0))
    if momentum == 1:
        close(own["mean"], means[-1])


def test_sequence_statistics_keep_one_row_for_all_steps() -> None:
    layer = input_layer(statistics="sequence", momentum=None)
    expected = []
    for steps in (3, 7, 2):
        x = tensor(steps, 5, 3, seed=steps)
        layer(x)
        wx = (x @ layer.weight_ih_l0.detach().T).flatten(0, 1)
        expected.append((wx.mean(0), wx.var(0, unbiased=False)))
    own = tables(layer)[INPUT]
    close(own["mean"], torch.stack([m for m, _ in expected]).mean(0, keepdim=True))
    close(own["var"], torch.stack([v for _, v in expected]).mean(0, keepdim=True))
    assert own["count"].tolist() == [3]


def test_sequence_statistics_count_valid_frames_only() -> None:
    layer = input_layer(statistics="sequence")
    x, lengths = tensor(6, 3, 3), [2, 6, 1]
    layer(x, lengths=lengths)
    frames = torch.cat([x[:n, k] for k, n in enumerate(lengths)]) @ layer.weight_ih_l0.detach().T
    assert len(frames) == 9
    close(tables(layer)[INPUT]["mean"][0], frames.mean(0))
    close(tables(layer)[INPUT]["var"][0], frames.var(0, unbiased=False))


def test_the_table_reaches_to_the_longest_sequence() -> None:
    layer = input_layer(momentum=None)
    assert layer.norm_l0["input"].mean.shape == (64, 4)
    assert layer.norm_l0["input"].rows_in_use == 0
    first, second, third = tensor(3, 5, 3), tensor(5, 5, 3, seed=1), tensor(2, 5, 3, seed=2)
    for x in (first, second, third):
        layer(x)
    own = tables(layer)[INPUT]
    assert own["count"].tolist() == [3, 3, 2, 1, 1]
    (m1, v1), (m2, v2), (m3, v3) = (products(layer, x) for x in (first, second, third))
    close(own["mean"][:2], (m1[:2] + m2[:2] + m3) / 3)
    close(own["mean"][2], (m1[2] + m2[2]) / 2)
    close(own["mean"][3:], m2[3:])
    close(own["var"][:2], (v1[:2] + v2[:2] + v3) / 3)
    close(own["var"][3:], v2[3:])


def test_max_steps_bounds_the_table() -> None:
    layer = input_layer(max_steps=4)
    site = layer.norm_l0["input"]
    assert site.count.tolist() == [0] * 4
    short, long = tensor(2, 5, 3), tensor(6, 5, 3, seed=1)
    layer(short)
    mean, var = products(layer, short)
    assert site.count.tolist() == [1, 1, 0, 0]
    close(site.mean, torch.cat([mean, mean[1:], mean[1:]]))  # rows not reached yet hold the last one's
    close(site.var, torch.cat([var, var[1:], var[1:]]))
    layer(long)
    own, (mean2, _) = tables(layer)[INPUT], products(layer, long)
    assert own["count"].tolist() == [2, 2, 1, 1]
    close(own["mean"], torch.cat([(mean + mean2[:2]) / 2, mean2[2:4]]))
    layer(long, start_step=4)  # beyond the table: nothing to remember
    assert tables(layer)[INPUT]["count"].tolist() == [2, 2, 1, 1]
    layer(long, start_step=3)
    assert tables(layer)[INPUT]["count"].tolist() == [2, 2, 1, 2]


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("max_steps", [None, 3])
def test_steps_beyond_the_table_take_its_last_row(cell: str, max_steps: int | None) -> None:
    site = BatchNorm(max_steps=max_steps)
    layer = make(cell, 3, 4, 2, norm=Norm(input=site, recurrent=site), bidirectional=True)
    call(layer, tensor(3, 5, 3))
    layer.eval()
    x, hx = tensor(7, 2, 3, seed=1), states(layer, 2)
    output, _ = call(layer, x, hx)
    expected, _, _ = numpy_call(layer, x.numpy(), [h.numpy() for h in hx])
    close(output, expected)


@pytest.mark.parametrize("max_steps", [None, 8])
def test_gaps_hold_the_nearest_earlier_row(max_steps: int | None) -> None:
    """Training may start at any step; what was never reached serves with the nearest earlier row, or the first one."""
    layer = input_layer(max_steps=max_steps)
    late, start, middle = tensor(2, 5, 3), tensor(1, 5, 3, seed=1), tensor(1, 5, 3, seed=2)
    layer(late, start_step=4)
    own, (mean, _) = tables(layer)[INPUT], products(layer, late)
    assert own["count"].tolist()[:6] == [0, 0, 0, 0, 1, 1]
    close(own["mean"][:6], mean[[0, 0, 0, 0, 0, 1]])
    layer(start)
    own, (first, _) = tables(layer)[INPUT], products(layer, start)
    assert own["count"].tolist()[:6] == [1, 0, 0, 0, 1, 1]
    close(own["mean"][:6], torch.cat([first[[0, 0, 0, 0]], mean]))
    layer(middle, start_step=2)
    own, (second, var) = tables(layer)[INPUT], products(layer, middle)
    close(own["mean"][:6], torch.cat([first[[0, 0]], second[[0, 0]], mean]))
    close(own["var"][2:4], var[[0, 0]])
    layer.eval()
    output, _ = layer(tensor(1, 2, 3), start_step=3)
    close(output, layer(tensor(1, 2, 3), start_step=2)[0], 0)


def test_gaps_stay_filled_after_loading() -> None:
    layer = input_layer()
    layer(tensor(1, 5, 3), start_step=3)
    other = input_layer()
    other.load_state_dict(layer.state_dict())
    x = tensor(1, 5, 3, seed=1)
    other(x)
    close(tables(other)[INPUT]["mean"][:3], products(other, x)[0][[0, 0, 0]])


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("norm", ["recurrent", "input-frame", "input-sequence", "sequence-input", "summed", 5])
def test_eval_without_statistics_warns_once_and_takes_mean_0_and_variance_1(cell: str, norm: Any) -> None:
    chosen: Any = Norm(summed=BatchNorm(max_steps=norm)) if norm == 5 else norm
    layer = make(cell, 3, 4, 2, norm=chosen, bidirectional=True).eval()
    x, hx = tensor(7, 3, 3), states(layer, 3)
    with batch_statistics(layer):
        call(layer, x, hx)
    with pytest.warns(UserWarning, match=r"population statistics were never set.*estimate_population") as caught:
        output, _ = call(layer, x, hx)
    assert len(caught) == 1
    close(call(layer, x, hx)[0], output, 0)  # without a further warning
    for module in layer.modules():
        if hasattr(module, "count"):
            assert not module.count.any()
            rows = 1 if module.is_sequence else 5
            zeros, ones = torch.zeros(rows, module.size).double(), torch.ones(rows, module.size).double()
            module.restore(Table(zeros, ones, torch.ones(rows, dtype=torch.int64)))
    expected, _, _ = numpy_call(layer, x.numpy(), [h.numpy() for h in hx])
    close(output, expected)


def test_statistics_once_set_and_forgotten_warn_again() -> None:
    layer = make("GRU", 3, 4, norm="recurrent").eval()
    x = tensor(2, 3, 3)
    with pytest.warns(UserWarning, match="never set"):
        call(layer, x)
    call(layer.train(), x)
    call(layer.eval(), x)
    layer.reset_parameters()
    with pytest.warns(UserWarning, match="never set"):
        call(layer, x)
    other = make("GRU", 3, 4, norm="recurrent", statistics=3)
    layer.load_state_dict(other.state_dict())
    call(layer, x)
    layer.load_state_dict(make("GRU", 3, 4, norm="recurrent").state_dict())
    with pytest.warns(UserWarning, match="never set"):
        call(layer, x)


def test_batch_statistics_are_those_of_training_and_change_nothing() -> None:
    layer = make("LSTM", 3, 4, 2, norm="recurrent", bidirectional=True, dropout=0.5, statistics=2)
    x = tensor(5, 6, 3)
    before = tables(layer)
    layer.eval()
    population, _ = call(layer, x)
    with batch_statistics(layer):
        assert not layer.training
        output, _ = call(layer, x)
        with batch_statistics(layer):
            close(call(layer, x)[0], output, 0)
        close(call(layer, x)[0], output, 0)
    expected, _, _ = numpy_call(layer, x.numpy(), [torch.zeros(4, 6, 4).numpy()] * 2, training=True)
    close(output, expected)
    assert (output - population).abs().max() > 1e-3
    close(call(layer, x)[0], population, 0)
    layer.dropout = 0.0
    with batch_statistics(layer.train()):
        close(call(layer, x)[0], output)
    for name, own in tables(layer).items():
        for key, value in own.items():
            close(value, before[name][key], 0)


def test_batch_statistics_end_with_an_exception() -> None:
    layer = make("GRU", 3, 4, norm="recurrent", statistics=2).eval()
    expected, _ = call(layer, tensor(2, 3, 3))
    with pytest.raises(KeyError, match="inside"), batch_statistics(layer):
        raise KeyError("inside")
    close(call(layer, tensor(2, 3, 3))[0], expected, 0)


def test_batch_statistics_of_a_model_without_norms_change_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with batch_statistics(model):
        assert model.training


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_freezing_a_site_by_its_own_eval(cell: str) -> None:
    """``norm.eval()`` in training: population statistics serve, nothing is averaged, gradients flow."""
    layer = make(cell, 3, 4, norm="recurrent", statistics=4)
    x, hx = tensor(4, 3, 3).requires_grad_(), states(layer, 3)
    expected, _ = call(layer.eval(), x, hx)
    layer.train()
    layer.norm_l0.eval()
    before = tables(layer)
    output, _ = call(layer, x, hx)
    close(output, expected, 0)
    output.square().sum().backward()
    assert layer.norm_l0["recurrent"].gamma.grad.abs().min() > 0
    for name, own in tables(layer).items():
        for key, value in own.items():
            close(value, before[name][key], 0)
    layer.norm_l0["input"].train()  # one site alone may learn its statistics again
    call(layer, x, hx)
    assert tables(layer)["norm_l0.input"]["count"].tolist() == [4] * 4
    assert tables(layer)["norm_l0.recurrent"]["count"].tolist() == [3] * 4


def test_training_without_gradients_still_averages() -> None:
    layer = input_layer()
    with torch.no_grad():
        layer(tensor(2, 3, 3))
    with torch.inference_mode():
        layer(tensor(2, 3, 3))
    assert tables(layer)[INPUT]["count"].tolist() == [2, 2]
    layer(tensor(2, 3, 3))[0].sum().backward()
    assert tables(layer)[INPUT]["count"].tolist() == [3, 3]


def test_statistics_carry_no_gradient() -> None:
    layer = make("LSTM", 3, 4, norm="recurrent")
    call(layer, tensor(3, 4, 3).requires_grad_())
    for module in layer.norm_l0.values():
        assert not module.mean.requires_grad
        assert not module.var.requires_grad


def test_a_failing_call_averages_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables change together, after the last layer has run."""
    layer = make("LSTM", 3, 4, 2, norm="recurrent")
    call(layer, tensor(3, 4, 3))
    before = tables(layer)
    results = iter([recur])

    def out_of_memory_in_the_second_layer(*args: Any, **kwargs: Any) -> Any:
        run = next(results, None)
        if run is None:
            raise MemoryError
        return run(*args, **kwargs)

    monkeypatch.setattr("bnrnn.nn.recurrent.recur", out_of_memory_in_the_second_layer)
    with pytest.raises(MemoryError):
        call(layer, tensor(3, 4, 3, seed=1))
    for name, own in tables(layer).items():
        for key, value in own.items():
            close(value, before[name][key], 0)


def test_reset_statistics_forgets() -> None:
    layer = make("LSTM", 3, 4, norm="recurrent", statistics=3)
    layer.norm_l0["input"].reset_statistics()
    assert layer.norm_l0["input"].rows_in_use == 0
    assert layer.norm_l0["recurrent"].rows_in_use == 3
    layer.reset_parameters()
    assert layer.norm_l0["recurrent"].rows_in_use == 0
    for site in layer.norm_l0.values():
        close(site.mean, torch.zeros_like(site.mean), 0)
        close(site.var, torch.ones_like(site.var), 0)
    assert (layer.norm_l0["recurrent"].gamma == 0.1).all()
    assert (layer.norm_l0["cell"].beta == 0).all()


# Estimation over a pass


class Model(nn.Module):
    """Two normalized layers of different cells among others, with dropout everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first = make("LSTM", 3, 4, 2, norm="recurrent", bidirectional=True, dropout=0.5, zoneout=0.2)
        self.between = nn.Dropout(0.5)
        self.second = make("GRU", 8, 5, norm="sequence-input", recurrent_dropout=0.5)
        self.plain = nn.BatchNorm1d(5, dtype=torch.float64)

    def forward(self, x: Tensor, lengths: list[int] | None = None) -> Tensor:
        y, _ = self.first(x, lengths=lengths)
        y, _ = self.second(self.between(y), lengths=lengths)
        return self.plain(y[-1])


def test_estimate_is_the_plain_mean_over_one_pass() -> None:
    """All layers at once, each row over the batches that reached it, dropout off."""
    model = Model()
    data = [
        (tensor(4, 6, 3), None),
        (tensor(6, 3, 3, seed=1), None),
        (tensor(5, 4, 3, seed=2), [5, 2, 1, 1]),  # a single row is left from the third step on
    ]
    model(data[0][0])  # something there before
    estimate_population_statistics(model, data)

    taken: list[dict[str, Any]] = []
    model.eval()
    for x, lengths in data:
        own = {}
        with batch_statistics(model):
            y, _ = model.first(x, lengths=lengths)
        options = {"lengths": lengths, "training": True}
        zeros = np.zeros((4, x.shape[1], 4)), np.zeros((4, x.shape[1], 4))
        _, _, first = numpy_call(model.first, x.numpy(), zeros, **options)
        _, _, second = numpy_call(model.second, y.detach().numpy(), [np.zeros((1, x.shape[1], 5))], **options)
        for prefix, tables_ in (("first", first), ("second", second)):
            own |= {f"{prefix}.norm{s}.{n}": v for s, sites in tables_.items() for n, v in sites.items()}
        taken.append(own)
    seen = tables(model)
    seen.pop("plain", None)
    assert seen.keys() == taken[0].keys()
    for name, own in seen.items():
        per_batch = [batch[name] for batch in taken]
        rows = max(len(mean) for mean, _ in per_batch)
        assert own["count"].tolist() == [sum(len(m) > t for m, _ in per_batch) for t in range(rows)]
        for key, which in (("mean", 0), ("var", 1)):
            for t in range(rows):
                reached = [torch.as_tensor(b[which][t]) for b in per_batch if len(b[which]) > t]
                close(own[key][t], torch.stack(reached).mean(0))


def forms() -> list[Callable[[Tensor, list[int]], Any]]:
    return [
        lambda x, n: (x, None, n),
        lambda x, n: [x, None, n],
        lambda x, n: {"input": x, "lengths": n},
        lambda x, n: pack_padded_sequence(x, torch.tensor(n), enforce_sorted=False),
    ]


def test_estimate_takes_any_iterable_and_any_form_of_batch() -> None:
    x, lengths = tensor(4, 3, 3), [4, 2, 3]
    results = []
    for form in forms():
        layer = make("RNN", 3, 4, norm="recurrent")

        def generate(form: Callable[..., Any] = form) -> Iterator[Any]:
            yield form(x, lengths)
            yield form(x + 1, lengths)

        assert estimate_population_statistics(layer, generate()) is None
        results.append(tables(layer))
    layer = make("RNN", 3, 4, norm="recurrent")
    estimate_population_statistics(layer, torch.utils.data.DataLoader([x[:, 0], x[:, 1], x[:, 2]], batch_size=3))
    assert tables(layer)["norm_l0.input"]["count"].tolist() == [1] * 3
    for other in results[1:]:
        for name, own in results[0].items():
            for key, value in own.items():
                close(other[name][key], value)
    assert results[0]["norm_l0.input"]["count"].tolist() == [2] * 3  # the last step has one row only


@pytest.mark.parametrize("norm", ["recurrent", "sequence-input", "summed"])
def test_estimate_from_a_single_batch_serves_that_batch(norm: str) -> None:
    """With one batch, population statistics are its own: evaluation gives the numbers of training."""
    layer = make("LSTM", 3, 4, 2, norm=norm, bidirectional=True)
    x = tensor(5, 6, 3)
    estimate_population_statistics(layer, [x])
    output, _ = call(layer.eval(), x)
    with batch_statistics(layer):
        close(output, call(layer, x)[0])


def test_estimate_restores_the_training_mode_of_each_module() -> None:
    model = Model()
    model.between.eval()
    model.first.norm_l0.eval()
    modes = [m.training for m in model.modules()]
    running = model.plain.running_mean.clone()
    estimate_population_statistics(model, [tensor(4, 6, 3)])
    assert [m.training for m in model.modules()] == modes
    close(model.plain.running_mean, running, 0)  # the model ran in eval()
    assert all(p.grad is None for p in model.parameters())


def test_estimate_without_momentum_even_where_the_layer_has_one() -> None:
    layer = input_layer(momentum=0.9)
    estimate_population_statistics(layer, batches(4))
    means = [products(layer, x)[0] for x in batches(4)]
    close(tables(layer)[INPUT]["mean"], torch.stack(means).mean(0))
    layer(batches(1)[0])  # training goes on from there, with the momentum
    close(tables(layer)[INPUT]["mean"], 0.1 * torch.stack(means).mean(0) + 0.9 * means[0])


def test_estimate_respects_max_steps() -> None:
    layer = input_layer(max_steps=2)
    estimate_population_statistics(layer, batches(2, steps=4))
    own = tables(layer)[INPUT]
    assert own["count"].tolist() == [2, 2]
    close(own["mean"], torch.stack([products(layer, x)[0] for x in batches(2, steps=4)]).mean(0)[:2])


def failing() -> Iterator[Tensor]:
    yield tensor(4, 6, 3)
    raise OSError("the disk is gone")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (failing(), OSError, "the disk is gone"),
        ([], ValueError, "batches: it was empty"),
        ([tensor(4, 6, 3), 3], TypeError, "batches: each must be a tensor.*got int"),
        ([tensor(4, 6, 3), tensor(4, 6, 2)], ValueError, "input must have shape"),
        ([tensor(4, 6, 3), tensor(4, 1, 3)], ValueError, "input: expected more than 1 rows"),
        (None, TypeError, "NoneType"),
    ],
    ids=["exception", "empty", "type", "shape", "one row", "none"],
)
@pytest.mark.parametrize("rows", [0, 3])
def test_estimate_leaves_everything_as_it_was_on_an_error(
    data: Any, error: type[Exception], message: str, rows: int
) -> None:
    layer = make("LSTM", 3, 4, 2, norm="recurrent", statistics=rows)
    if error is OSError:
        data = failing()
    layer.norm_l1.eval()
    before, modes = tables(layer), [m.training for m in layer.modules()]
    with pytest.raises(error, match=message):
        estimate_population_statistics(layer, data)
    assert [m.training for m in layer.modules()] == modes
    for name, own in tables(layer).items():
        for key, value in own.items():
            close(value, before[name][key], 0)
    call(layer, tensor(2, 3, 3)) if rows else None
    if rows:
        assert tables(layer)["norm_l0.input"]["count"].tolist() == [4, 4, 3]


@pytest.mark.usefixtures("unchecked")
def test_estimate_wants_a_model_with_statistics() -> None:
    for model in (nn.Linear(2, 2), CLASSES["LSTM"](2, 2), CLASSES["LSTM"](2, 2, norm="layer")):
        with pytest.raises(ValueError, match=r"model: .*no batch-normalized"):
            estimate_population_statistics(model, [tensor(2, 2, 2)])
    for function in (lambda: estimate_population_statistics(3, []), lambda: batch_statistics("x").__enter__()):
        with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got"):
            function()


def test_estimate_within_batch_statistics() -> None:
    layer = input_layer()
    with batch_statistics(layer):
        estimate_population_statistics(layer, batches(2))
        layer(batches(1)[0])
    assert tables(layer)[INPUT]["count"].tolist() == [2] * 3


def test_statistics_are_shared_by_nobody() -> None:
    """Each layer and direction has its own tables."""
    layer = make("LSTM", 3, 4, 2, norm="recurrent", bidirectional=True)
    call(layer, tensor(4, 5, 3))
    means = [own["mean"] for name, own in tables(layer).items() if name.endswith("recurrent")]
    assert len(means) == 4
    assert all((a - b).abs().max() > 1e-3 for k, a in enumerate(means) for b in means[:k])


def test_public_names() -> None:
    for name in ("LSTM", "GRU", "RNN", "Norm", "BatchNorm", "LayerNorm", "Shift", "norms"):
        assert name in bnrnn.__all__
    assert {"batch_statistics", "estimate_population_statistics"} <= set(bnrnn.__all__)
