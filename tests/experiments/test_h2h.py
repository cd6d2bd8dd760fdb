"""The stack of simple recurrent layers with hidden-to-hidden normalization."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.optim import SGD

from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.language.h2h import H2H, HiddenConfig, HiddenTask


def task(**options: object) -> HiddenTask:
    letters = Vocabulary(tuple("abcde"))
    text = torch.randint(0, 5, (900,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    corpus = Corpus("letters", "character", text[:500], text[500:700], text[700:], letters)
    config = dataclasses.replace(HiddenConfig(units=6, length=10, batch_size=4), **options)  # pyright: ignore
    return HiddenTask(config, corpus)


def test_the_papers_net() -> None:
    config = H2H.config
    model = config.build_model(Vocabulary(tuple(map(chr, range(50)))))
    assert (config.units, config.layers, config.epochs, config.length) == (250, 3, 20, 100)
    assert model.embedding is not None
    assert model.embedding.weight.shape == (50, 250)
    assert model.embedding.weight.detach().std().item() == pytest.approx(1.0, abs=0.03)
    assert model.rnn.num_layers == 3
    assert model.rnn.norm is not None
    assert list(model.rnn.norm.sites()) == ["summed"]
    for layer in range(3):
        assert (getattr(model.rnn, f"norm_l{layer}")["summed"].gamma == 1).all()
        for name in ("weight_ih", "weight_hh"):
            weight = getattr(model.rnn, f"{name}_l{layer}")
            assert weight.abs().max() <= (6 / 500) ** 0.5  # Glorot's bound
            assert weight.detach().std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
        assert (getattr(model.rnn, f"bias_ih_l{layer}") == 0).all()
    assert (model.readout.bias == 0).all()


def test_the_baseline_differs_in_the_norm_alone() -> None:
    plain, normalized = task(norm="none").model, task().model
    names = {name for name, p in plain.named_parameters() if p.requires_grad}
    others = {name for name, p in normalized.named_parameters() if p.requires_grad}
    assert others - names == {f"rnn.norm_l{layer}.summed.gamma" for layer in range(3)}
    assert names <= others
    for name in names:
        assert torch.equal(plain.get_parameter(name), normalized.get_parameter(name))


def test_steps_are_gradient_steps_with_momentum() -> None:
    built = task(learning_rate=0.25, momentum=0.8)
    optimizer = built.optimizer()
    assert isinstance(optimizer, SGD)
    assert optimizer.defaults["momentum"] == 0.8
    assert built.learning_rate(7) == 0.25
    assert built.plan.clip is None
    step = built.loss(built.model, built.batch(0, 0), {})
    step.loss.backward()
    assert all(p.grad is not None for p in built.model.parameters() if p.requires_grad)
    weight = built.model.readout.weight
    before, gradient = weight.detach().clone(), weight.grad
    assert gradient is not None
    optimizer.step()
    assert torch.allclose(weight, before - 0.25 * gradient)


def test_relu_in_place_of_tanh() -> None:
    built = task(nonlinearity="relu")
    assert isinstance(built.model.rnn, nn.Module)
    output, _ = built.model.rnn(torch.randn(3, 4, 6))
    assert output.min() == 0


@pytest.mark.parametrize("wrong", [{"momentum": 1.0}, {"momentum": -0.1}, {"layers": 0}])
def test_wrong_options(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        task(**wrong)
