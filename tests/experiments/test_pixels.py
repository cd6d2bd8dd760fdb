"""The pixel experiments: orders, initialisation, noise, batches, and what each option does."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import numpy as np
import pytest
import torch

import bnrnn
from bnrnn.data import mnist
from bnrnn.experiments.initialization import initialize
from bnrnn.experiments.norms import NormName
from bnrnn.experiments.pixels.config import PixelConfig, initial_noise
from bnrnn.experiments.pixels.model import PixelClassifier
from bnrnn.experiments.pixels.task import PixelTask, pixel_order
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.nn.norm import PresetName
from bnrnn.training.evaluation import evaluate, evaluate_statistics, with_population_statistics

PIXELS = ("digits", "digits-permuted", "smnist", "pmnist", "pmnist-released")
SMALL = {"units": 6, "population_batch_size": 301}


def task(name: str = "digits", **options: Any) -> PixelTask:
    experiment = EXPERIMENTS[name]
    built = experiment.build(dataclasses.replace(experiment.config, **{**SMALL, **options}))
    assert isinstance(built, PixelTask)
    return built


def test_the_released_order_is_the_first_draw_of_seed_1() -> None:
    order = pixel_order("with-replacement", 784)
    assert order[:10].tolist() == [37, 235, 72, 767, 715, 645, 144, 129, 583, 749]
    assert len(order) == 784
    assert len(order.unique()) == 501
    central = [i for i in order.unique().tolist() if 4 <= i // 28 < 24 and 4 <= i % 28 < 24]
    assert len(central) == 255


def test_the_permuted_order_is_a_permutation() -> None:
    order = pixel_order("permuted", 784)
    assert sorted(order.tolist()) == list(range(784))
    assert order.tolist() != list(range(784))
    assert torch.equal(order, torch.from_numpy(np.random.RandomState(1).permutation(784)))
    assert torch.equal(pixel_order("scan", 784), torch.arange(784))
    with pytest.raises(ValueError, match="order must be"):
        pixel_order("spiral", 784)  # pyright: ignore[reportArgumentType]


def test_batches_are_a_function_of_seed_epoch_and_position() -> None:
    first, second = task(), task()
    for place in ((0, 3), (2, 0), (0, 3), (0, 4)):
        for a, b in zip(first.batch(*place), second.batch(*place), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(first.batch(0, 3)[0], first.batch(1, 3)[0])
    assert not torch.equal(first.batch(0, 3)[0], task(seed=2).batch(0, 3)[0])


def test_an_epoch_shows_every_image_once() -> None:
    built = task(batch_size=43)  # 28 * 43 = 1204
    shown = torch.cat([built.batch(1, position)[0] for position in range(built.epoch_length(1))])
    images = built.images.train_images.float() / 16
    assert len(shown) == len(images) == 1204
    assert sorted(map(tuple, shown.tolist())) == sorted(map(tuple, images.tolist()))


def test_pixels_come_in_the_experiments_order_and_scale() -> None:
    scan, permuted = task("digits"), task("digits-permuted")
    x, y = scan.batch(0, 0)
    z, same = permuted.batch(0, 0)
    assert torch.equal(y, same)
    assert torch.equal(z, x[:, pixel_order("permuted", 64)])
    assert x.min() == 0
    assert x.max() == 1


def test_options_that_do_not_go_together_are_refused() -> None:
    for options, message in (
        ({"initial_state": "learnt", "noise": 0.2}, "noise is that of another initial state than 'learnt'"),
        ({"norm": "none", "gamma": 0.3}, "norm 'none' has none"),
        ({"population_batch_size": 1}, "population_batch_size must be at least 2"),
        ({"patience": -1}, "patience must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            PixelConfig(**options)  # type: ignore[arg-type]
    PixelConfig(norm="input-sequence", batch_size=1)  # its statistics are over the steps as well
    assert task(decay="cosine", epochs=10).learning_rate(5) == pytest.approx(0.5e-3)


def test_rows_of_the_statistics() -> None:
    assert EXPERIMENTS["pmnist"].config.evaluation_batch_size == 100  # what the papers' curves were taken with
    built = task(evaluation_batch_size=70)
    assert [built.rows(split, "batch") for split in ("train", "valid", "test")] == [70, 70, 70]  # type: ignore[arg-type]
    assert built.rows("valid", "population") == 301
    large = task(evaluation_batch_size=1000, population_batch_size=5000)
    assert [large.rows("valid", kind) for kind in ("batch", "population")] == [297, 1204]  # type: ignore[arg-type]
    assert task(norm="none").rows("valid", "batch") is None


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("norm", ["none", *get_args(PresetName)])
def test_every_cell_and_norm_trains_and_evaluates(cell: str, norm: NormName) -> None:
    built = task(cell=cell, norm=norm)
    optimizer = built.optimizer()
    losses = []
    for _ in range(6):
        torch.manual_seed(0)
        step = built.loss(built.model, built.batch(0, 0), {})
        optimizer.zero_grad()
        step.loss.backward()
        for name, p in built.model.named_parameters():
            assert not p.requires_grad or (p.grad is not None and p.grad.isfinite().all()), name
        optimizer.step()
        losses.append(step.loss.item())
    assert losses[-1] < losses[0]
    judged = with_population_statistics(built, built.model, torch.device("cpu"))
    for statistics in ("batch", "population"):
        with evaluate_statistics(judged, statistics):
            metrics = built.evaluate(judged, "valid", statistics)
        assert 0 < metrics["loss"] < 5
        assert metrics["error"] == pytest.approx(1 - metrics["accuracy"])


def test_evaluation_in_chunks_of_steps_equals_the_whole() -> None:
    built = task("digits-permuted", initial_state="learnt")
    judged = with_population_statistics(built, built.model, torch.device("cpu"))
    assert isinstance(judged, PixelClassifier)
    pixels = built.batch(0, 0)[0]
    for statistics in ("batch", "population"):
        with evaluate_statistics(judged, statistics):
            whole = judged(pixels)
            judged.chunk = 9
            parts = judged(pixels)
            judged.chunk = 112
        torch.testing.assert_close(parts, whole)


def test_population_statistics_in_chunks_equal_those_of_the_whole() -> None:
    tables = []
    for chunk in (64, 9):
        built = task("digits-permuted")
        built.model.chunk = chunk
        judged = with_population_statistics(built, built.model, torch.device("cpu"))
        tables.append({name: t for name, t in judged.state_dict().items() if name.endswith((".mean", ".var"))})
    assert tables[0]
    for name, table in tables[0].items():
        assert len(table) == 64
        torch.testing.assert_close(table, tables[1][name])


def test_evaluation_is_repeatable_with_noise() -> None:
    built = task("digits")
    first, second = (evaluate(built, built.model, ["valid"], ["batch"], torch.device("cpu")) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("options", "order", "noise"),
    [
        ({"norm": "recurrent"}, "scan", 0.1),
        ({"norm": "recurrent"}, "permuted", 0.0),
        ({"norm": "recurrent"}, "with-replacement", 0.0),
        ({"norm": "none"}, "scan", 0.0),
        ({"norm": "layer"}, "scan", 0.0),
        ({"norm": "none", "initial_state": "noise", "noise": 0.2}, "permuted", 0.2),
        ({"norm": "recurrent", "initial_state": "learnt"}, "scan", 0.0),
        ({"norm": "recurrent", "initial_state": "mean-pixel"}, "scan", 0.0),
    ],
)
def test_noise_belongs_to_batch_normalization_in_scan_order(options: Any, order: Any, noise: float) -> None:
    assert initial_noise(PixelConfig(**options), order) == noise


@pytest.mark.parametrize(
    ("kind", "training", "evaluation"), [("noise", True, True), ("noise-in-training", True, False)]
)
def test_noise_is_on_h_only(kind: Any, training: bool, evaluation: bool) -> None:
    model = task(initial_state=kind, noise=0.5).model
    pixels = torch.rand(4, 64)
    for mode, noisy in ((True, training), (False, evaluation)):
        h, c = model.train(mode).initial_state(pixels)
        assert (h.std(1) > 0.05).all().item() == noisy
        assert (c == 0).all()


def test_mean_pixel_is_added_to_h() -> None:
    pixels = torch.rand(4, 64)
    h, _ = task(initial_state="mean-pixel").model.initial_state(pixels)
    torch.testing.assert_close(h[0], pixels.mean(1, keepdim=True).expand(-1, 6))


def test_the_initial_state_is_learnt() -> None:
    built = task("digits-permuted")
    built.loss(built.model, built.batch(0, 0), {}).loss.backward()
    assert built.model.c0 is not None
    assert built.model.c0.grad is not None
    assert built.model.c0.grad.abs().max() > 0


def test_the_baseline_has_the_released_shift_unless_told_otherwise() -> None:
    assert any("cell.beta" in name for name, _ in task(norm="none").model.named_parameters())
    plain = task(norm="none", cell_shift=False).model
    assert not any("beta" in name for name, _ in plain.named_parameters())
    assert [name for name, p in plain.named_parameters() if not p.requires_grad] == ["rnn.bias_hh_l0"]


def identity_blocks(weight: torch.Tensor) -> list[bool]:
    size = weight.shape[1]
    return [torch.equal(block, torch.eye(size)) for block in weight.split(size)]


@pytest.mark.parametrize(
    ("kind", "cell", "identity"),
    [
        ("identity-candidate", bnrnn.LSTM, [False, False, True, False]),
        ("identity-all", bnrnn.LSTM, [True] * 4),
        ("orthogonal", bnrnn.LSTM, [False] * 4),
        ("identity-candidate", bnrnn.GRU, [False, False, True]),
        ("identity-candidate", bnrnn.RNN, [True]),
        ("orthogonal", bnrnn.RNN, [False]),
    ],
)
def test_recurrent_initialisation(kind: Any, cell: Any, identity: list[bool]) -> None:
    layer = cell(3, 20, num_layers=2, norm="recurrent")
    initialize(layer, kind)
    for index in range(2):
        weight = getattr(layer, f"weight_hh_l{index}").detach()
        assert identity_blocks(weight) == identity
        others = torch.cat(
            [block for block, eye in zip(weight.split(20), identity, strict=True) if not eye] or [weight]
        )
        if not all(identity):
            # orthonormal over the blocks together: no single block is
            torch.testing.assert_close(others.t() @ others, torch.eye(20), atol=1e-5, rtol=0)
            if len(others) > 20:
                assert others[:20].square().sum() == pytest.approx(20 * 20 / len(others), rel=0.25)


def test_input_weights_and_readout_are_orthogonal() -> None:
    model = task(units=40).model
    assert model.rnn.weight_ih_l0.square().sum().item() == pytest.approx(1.0, rel=1e-5)  # one input: a unit vector
    gram = model.readout.weight @ model.readout.weight.t()
    torch.testing.assert_close(gram.detach(), torch.eye(10), atol=1e-5, rtol=0)
    assert (model.readout.bias == 0).all()


@pytest.mark.parametrize("norm", [None, "recurrent"])
def test_biases_are_zero_but_for_the_forget_gate(norm: str | None) -> None:
    layer = bnrnn.LSTM(3, 4, norm=norm)
    initialize(layer, "orthogonal", forget_bias=1.0)
    assert layer.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    if norm is None:
        assert (layer.bias_hh_l0 == 0).all()
        assert not layer.bias_hh_l0.requires_grad


def test_gamma_starts_at_a_tenth_and_as_told() -> None:
    def gammas(**options: Any) -> set[float]:
        named = task(**options).model.named_parameters()
        return {round(v, 6) for name, p in named if name.endswith("gamma") for v in p.tolist()}

    assert gammas(norm="recurrent") == {0.1}
    assert gammas(norm="recurrent", gamma=0.5) == {0.5}
    assert gammas(norm="input-frame") == {1.0}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"units": 0}, "units"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": -1}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"noise": -0.1}, "noise"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"clip": 0.0}, "clip"),
        ({"rho": 1.0}, "rho"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word} must be"):
        PixelConfig(**options)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size must be at most 1,204.*got 2,000"):
        task(batch_size=2000)


@pytest.mark.parametrize("name", PIXELS)
def test_defaults_are_the_papers(name: str) -> None:
    config = EXPERIMENTS[name].config
    assert (config.units, config.learning_rate, config.rho, config.clip) == (100, 1e-3, 0.9, 1.0)
    assert (config.forget_bias, config.noise, config.selection) == (1.0, 0.1, "error")
    assert config.selection_statistics == "batch"
    if "digits" not in name:
        assert (config.batch_size, config.epochs, config.population_batch_size) == (100, 200, 5000)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_described_config_is_restored(name: str) -> None:
    experiment = EXPERIMENTS[name]
    described = json.loads(json.dumps(experiment.describe(dataclasses.replace(experiment.config, seed=7))))
    assert described["changed"] == {"seed": 7}
    assert experiment.describe(experiment.restore(described)) == experiment.describe(
        dataclasses.replace(experiment.config, seed=7)
    )


@pytest.mark.real_data
def test_mnist_has_the_papers_split_and_length() -> None:
    images = mnist.load()
    assert [len(part) for part in (images.train_labels, images.valid_labels, images.test_labels)] == [
        50_000,
        10_000,
        10_000,
    ]
    built = task("pmnist", population_batch_size=5000)
    assert built.epoch_length(0) == 500
    assert built.plan.updates == 100_000
    assert built.batch(0, 499)[0].shape == (100, 784)
    assert sum(1 for _ in built.population_batches()) == 10
