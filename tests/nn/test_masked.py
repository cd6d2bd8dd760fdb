"""Batch normalization of padded batches: against plain sums over the valid rows, and its population statistics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnrnn
from bnrnn import MaskedBatchNorm

MASK = torch.tensor([[True, True, True], [True, False, True], [False, False, True], [False, False, True]])


def batch(seed: int = 0) -> Tensor:
    return torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def layer(**options: bool | float) -> MaskedBatchNorm:
    norm = MaskedBatchNorm(5, gamma=0.3, dtype=torch.float64, **options)  # pyright: ignore[reportArgumentType]
    if norm.beta is not None:
        nn.init.normal_(norm.beta)
    return norm


@pytest.mark.parametrize("mask", [MASK, None], ids=["masked", "all rows"])
@pytest.mark.parametrize("bias", [True, False])
def test_values_are_those_of_the_valid_rows(mask: Tensor | None, bias: bool) -> None:
    norm, x = layer(bias=bias), batch()
    valid = torch.ones(4, 3, dtype=torch.bool) if mask is None else mask
    rows = x[valid].numpy()
    mean = rows.sum(0) / len(rows)
    var = ((rows - mean) ** 2).sum(0) / len(rows)
    expected = np.zeros((4, 3, 5))
    expected[valid.numpy()] = 0.3 * (rows - mean) / np.sqrt(var + 1e-5)
    if norm.beta is not None:
        expected[valid.numpy()] += norm.beta.detach().numpy()
    output = norm(x, mask)
    np.testing.assert_allclose(output.detach().numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(norm.mean[0].numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(norm.var[0].numpy(), var, atol=1e-12)


def test_gradients_go_through_both_statistics_and_not_through_the_padding() -> None:
    norm = layer()
    x = batch().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: norm(x, MASK), (x,))
    (gradient,) = torch.autograd.grad(norm(x, MASK).square().sum(), x)
    assert (gradient[~MASK] == 0).all()
    assert (gradient[MASK] != 0).all()


def test_what_stands_in_the_padding_does_not_matter() -> None:
    norm, x = layer(), batch()
    strange = torch.where(MASK.unsqueeze(-1), x, torch.tensor(torch.nan, dtype=x.dtype)).requires_grad_()
    output = norm(strange, MASK)
    torch.testing.assert_close(output, norm(x, MASK), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(output.sum(), strange)
    assert torch.isfinite(gradient).all()


def test_population_statistics_are_the_batches_means_and_serve_in_eval() -> None:
    norm = layer(bias=False)
    parts = [batch(seed)[MASK] for seed in range(3)]
    bnrnn.estimate_population_statistics(norm, [(batch(seed), MASK) for seed in range(3)])
    mean = torch.stack([rows.mean(0) for rows in parts]).mean(0)
    var = torch.stack([rows.var(0, unbiased=False) for rows in parts]).mean(0)
    torch.testing.assert_close(norm.mean[0], mean)
    torch.testing.assert_close(norm.var[0], var)
    norm.eval()
    one = batch(7)[:1, :1]
    torch.testing.assert_close(norm(one), 0.3 * (one - mean) / (var + 1e-5).sqrt())
    before = norm.mean.clone()
    with bnrnn.batch_statistics(norm):
        expected = layer(bias=False)(batch(9), MASK)
        torch.testing.assert_close(norm(batch(9), MASK), expected)
    assert torch.equal(norm.mean, before)


def test_one_pass_estimates_it_together_with_the_recurrent_sites() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = bnrnn.LSTM(5, 5, norm="recurrent", dtype=torch.float64)
            self.norm = MaskedBatchNorm(5, dtype=torch.float64)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, _ = self.rnn(x, lengths=lengths)
            return self.norm(output, torch.arange(len(x)).unsqueeze(1) < lengths)

    model, lengths = Both(), torch.tensor([4, 2, 3])

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return ((batch(seed), lengths) for seed in range(4))

    bnrnn.estimate_population_statistics(model, batches())
    assert int(model.norm.count[0]) == 4
    assert int(model.rnn.norm_l0["input"].count[0]) == 4
    outputs = []
    with torch.no_grad(), bnrnn.batch_statistics(model.eval()):
        for x, _ in batches():
            output, _ = model.rnn(x, lengths=lengths)
            outputs.append(torch.cat([output[:n, k] for k, n in enumerate(lengths)]).mean(0))
    torch.testing.assert_close(model.norm.mean[0], torch.stack(outputs).mean(0))


def test_half_precision_keeps_statistics_in_32_bits() -> None:
    norm = MaskedBatchNorm(5)
    x = batch().float()
    half = MaskedBatchNorm(5)(x.bfloat16(), MASK)
    assert half.dtype == torch.bfloat16
    assert norm.to(torch.bfloat16).mean.dtype == torch.float32
    torch.testing.assert_close(half.float(), MaskedBatchNorm(5)(x, MASK), atol=0.01, rtol=0.02)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("x", "mask", "words"),
    [
        (torch.zeros(4, 3), None, "5 features"),
        (torch.zeros(4, 5), torch.ones(4), "torch.bool"),
        (torch.zeros(4, 5), torch.ones(3, dtype=torch.bool), r"shape \(4,\)"),
        (torch.zeros(1, 5), None, "at least 2 valid rows"),
        (torch.zeros(4, 5), torch.tensor([True, False, False, False]), "got 1"),
    ],
)
def test_wrong_calls_name_what_is_wrong(x: Tensor, mask: Tensor | None, words: str) -> None:
    norm = MaskedBatchNorm(5)
    with pytest.raises(ValueError, match=words):
        norm(x, mask)
    assert int(norm.count.sum()) == 0
