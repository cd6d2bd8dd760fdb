"""The Attentive Reader: against the NumPy version, and what must and must not change its answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bnrnn
import reference
from bnrnn.data.cloze import RESERVED, Words
from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.reading.model import (
    SEQUENCE,
    VARIANTS,
    Architecture,
    AttentiveReader,
    Variant,
    negative_log_likelihood,
    normalized_sites,
)
from reference import reader as numpy_reader

LENGTHS = [4, 7, 2]
ANSWERS = [5, 8, 5]


def words(count: int = 9) -> Words:
    return Words(Vocabulary(RESERVED + tuple(f"w{k}" for k in range(count - 4)), unknown="<unk>"))


def reader(variant: Variant, **options: Any) -> AttentiveReader:
    options = {"bidirectional": variant == "bn-e-star-star", "dropout": 0.0, **options}
    model = AttentiveReader(Architecture(variant=variant, units=6, **options), words())
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            random = torch.Generator().manual_seed(index)
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=random))
    return model


def states(model: AttentiveReader) -> tuple[Tensor, Tensor]:
    size = 6 * (2 if model.architecture.bidirectional else 1)
    random = torch.Generator().manual_seed(1)
    d, q = (torch.randn(shape, generator=random).double() for shape in ((7, 3, size), (3, size)))
    return d.requires_grad_(), q.requires_grad_()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("terms", [True, False], ids=["all terms", "fewest terms"])
def test_attention_and_readout_are_the_numpy_ones(variant: Variant, terms: bool) -> None:
    model = reader(variant, similarity=terms, mean_passage=terms).double()
    d, q = states(model)
    answer = model.respond(d, q, torch.tensor(LENGTHS))
    assert answer.logits is not None
    loss = negative_log_likelihood(answer.logits, torch.tensor(ANSWERS))
    own = {name: value for name, value in model.named_parameters() if name.startswith("ff_")}
    arrays = {name: value.detach().numpy() for name, value in {"d": d, "q": q, **own}.items()}

    def run(at: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return numpy_reader.respond(at["d"], at["q"], LENGTHS, at)

    logits, attention = run(arrays)
    np.testing.assert_allclose(answer.logits.detach().numpy(), logits, atol=1e-12)
    np.testing.assert_allclose(answer.attention.detach().numpy(), attention, atol=1e-12)
    gradients = torch.autograd.grad(loss, [d, q, *own.values()])
    random = np.random.default_rng(2)
    for name, gradient in zip(arrays, gradients, strict=True):
        direction = random.standard_normal(arrays[name].shape)
        slope = reference.directional(lambda at: numpy_reader.loss(run(at)[0], ANSWERS), arrays, name, direction)
        assert float((gradient.numpy() * direction).sum()) == pytest.approx(slope, rel=1e-8, abs=1e-10), name


def call(model: AttentiveReader, columns: list[int], steps: int = 7, filling: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and attention of some of three questions, padded to so many words."""
    random = torch.Generator().manual_seed(3)
    passage = torch.randint(4, 9, (7, 3), generator=random)
    question = torch.randint(4, 9, (3, 3), generator=random)
    lengths, asked = torch.tensor(LENGTHS), torch.tensor([3, 2, 3])
    padded = torch.full((steps, len(columns)), filling)
    padded[: min(7, steps)] = passage[:steps, columns]
    for place, column in enumerate(columns):
        padded[LENGTHS[column] :, place] = filling
    answer = model(padded, lengths[columns], question[:, columns], asked[columns])
    return answer.logits, answer.attention


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_evaluation_no_answer_depends_on_the_rest_of_the_batch(variant: Variant) -> None:
    model = reader(variant).double()  # small variances enlarge what rounding makes
    for _ in range(3):
        call(model, [0, 1, 2])
    model.eval()
    together, attention = call(model, [0, 1, 2])
    for column, length in enumerate(LENGTHS):
        alone, own = call(model, [column], steps=length)
        torch.testing.assert_close(alone[0], together[column], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(own[:, 0], attention[:length, column], atol=1e-9, rtol=1e-9)
        assert (attention[length:, column] == 0).all()
    other, _ = call(model, [2, 0], steps=12, filling=8)
    torch.testing.assert_close(other, together[[2, 0]], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_enters_training_only_where_it_is_not_masked(variant: Variant) -> None:
    with torch.no_grad():
        zeros, eights = (call(reader(variant), [0, 1, 2], filling=filling)[0] for filling in (0, 8))
        assert torch.equal(zeros, eights)
        if variant == "bn-e-star-star":
            return
        zeros, eights = (call(reader(variant, masked=False), [0, 1, 2], filling=filling)[0] for filling in (0, 8))
        assert torch.equal(zeros, eights) == (variant == "lstm")


def sites(variant: Variant) -> dict[str, str]:
    return normalized_sites(reader(variant))


def test_each_variant_differs_from_the_one_before_in_the_maps_that_the_paper_names() -> None:
    lstm, bn, everywhere, star, both = map(sites, VARIANTS)
    assert lstm == {}
    layers = {f"{text}.norm_l0" for text in ("passage", "question")}
    assert bn == {f"{layer}.{site}": "frame" for layer in layers for site in ("input", "recurrent", "cell")}
    maps = ("ff_att_ctx", "ff_att_q", "ff_out_mean_d", "ff_out_q", "ff_out_ctx")
    assert everywhere == {**bn, **{f"{name}.norm": "sequence" for name in maps}}
    assert star == {**everywhere, **{f"{layer}.input": "sequence" for layer in layers}}
    reverse = {name.replace("_l0", "_l0_reverse"): kind for name, kind in star.items() if "_l0" in name}
    assert both == {**star, **reverse}


@pytest.mark.parametrize("variant", VARIANTS[2:])
def test_biases_are_the_offsets_of_the_normalized_maps(variant: Variant) -> None:
    parameters = {name for name, _ in reader(variant).named_parameters() if name.startswith("ff_")}
    assert {name for name in parameters if "bias" in name or "beta" in name} == {
        "ff_att_ctx.norm.beta",
        "ff_out_q.norm.beta",
        "ff_logit.bias",
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_epsilons_and_gains_are_the_papers(variant: Variant) -> None:
    for module in reader(variant).modules():
        spec = getattr(module, "spec", None)
        if isinstance(spec, bnrnn.BatchNorm):
            assert spec.gamma == 0.1
    norm = Architecture(variant=variant).norm
    if norm is None:
        return
    assert isinstance(norm.input, bnrnn.BatchNorm)
    assert isinstance(norm.cell, bnrnn.BatchNorm)
    assert norm.input.eps == (1e-6 if variant in SEQUENCE else 1e-5)
    assert norm.cell.eps == 1e-5


@pytest.mark.parametrize("equal", [True, False])
def test_initial_weights(equal: bool) -> None:
    model = AttentiveReader(
        Architecture(variant="lstm", units=8, bidirectional=False, equal_blocks=equal), words(30), seed=4
    )
    blocks = [block for name in ("weight_ih_l0", "weight_hh_l0") for block in getattr(model.passage, name).chunk(4)]
    blocks += [model.ff_att_ctx.linear.weight, model.ff_out_q.linear.weight]
    for block in blocks:
        torch.testing.assert_close(block @ block.T, 0.05**2 * torch.eye(8), atol=1e-7, rtol=1e-5)
        assert torch.equal(block, blocks[0]) == (equal or block is blocks[0])
    bound = (6 / (30 + 8 + 1)) ** 0.5
    assert 0.9 * bound < float(model.embedding.weight.detach().abs().max()) <= bound
    assert torch.equal(model.embedding.weight, model.ff_logit.weight) == equal
    assert float(model.ff_att_proj.detach().abs().max()) <= 8**-0.5
    for name, parameter in model.named_parameters():
        if "bias" in name or "h0" in name:
            assert (parameter == 0).all(), name
    assert not torch.equal(
        model.embedding.weight, AttentiveReader(model.architecture, words(30), seed=5).embedding.weight
    )


def test_both_directions_have_a_last_state_each_at_its_own_end() -> None:
    model = reader("bn-e-star-star").eval()
    model.train()
    call(model, [0, 1, 2])
    model.eval()
    passage = torch.tensor([[4, 5], [6, 7], [8, 0]])
    _, last = model._read(model.passage, model.passage_h0, passage, torch.tensor([3, 2]))
    output, _ = model._read(model.passage, model.passage_h0, passage, torch.tensor([3, 2]))
    torch.testing.assert_close(last[0], torch.cat((output[2, 0, :6], output[0, 0, 6:])))
    torch.testing.assert_close(last[1], torch.cat((output[1, 1, :6], output[0, 1, 6:])))


def test_the_loss_has_a_floor_under_the_probability() -> None:
    logits = torch.tensor([[0.0, 100.0], [1.0, 2.0]])
    expected = -np.mean([np.log(1e-8), np.log(1 / (1 + np.exp(1.0)) + 1e-8)])
    assert float(negative_log_likelihood(logits, torch.tensor([0, 0]))) == pytest.approx(expected, rel=1e-6)


def test_a_checkpoint_of_another_vocabulary_is_refused() -> None:
    model = reader("lstm")
    with pytest.raises(RuntimeError, match="vocabulary of 9 words is not the data's of 10"):
        AttentiveReader(model.architecture, words(10)).load_state_dict(model.state_dict())
