"""Sequences, streams and the softmax loss of language models."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from bnrnn.training.batches import Sequences, Streams, pieces
from bnrnn.training.loss import Predicted, linear_cross_entropy
from bnrnn.training.score import Score


def test_targets_are_the_inputs_shifted_by_one() -> None:
    text = torch.arange(23)
    sequences = Sequences(text, length=5, batch_size=2, seed=1)
    for position in range(sequences.epoch_length):
        inputs, targets = sequences.batch(0, position)
        assert inputs.shape == targets.shape == (4, 3)
        assert torch.equal(targets, inputs + 1)
    streams = Streams(text, rows=3, window=2)
    inputs, targets = streams.batch(1)
    assert inputs.tolist() == [[2, 9, 16], [3, 10, 17]]
    assert torch.equal(targets, inputs + 1)
    ((inputs, targets),) = pieces(text, 5, 10)
    assert inputs.tolist() == [[0, 5, 10, 15], [1, 6, 11, 16], [2, 7, 12, 17], [3, 8, 13, 18]]
    assert torch.equal(targets, inputs + 1)


def test_an_epoch_shows_every_sequence_once_from_a_random_offset() -> None:
    text = torch.arange(103)
    sequences = Sequences(text, length=10, batch_size=4, seed=3)
    assert (sequences.count, sequences.epoch_length) == (9, 2)  # 9 = 4 + 5: a row alone joins the batch before
    orders, offsets = [], []
    for epoch in range(6):
        first = torch.cat([sequences.batch(epoch, position)[0][0] for position in range(2)])
        assert [len(sequences.batch(epoch, p)[0][0]) for p in range(2)] == [4, 5]
        offset = int(first.min())
        assert 0 <= offset < 10
        assert sorted(((first - offset) // 10).tolist()) == list(range(9))
        assert set(((first - offset) % 10).tolist()) == {0}
        orders.append(tuple(first.tolist()))
        offsets.append(offset)
    assert len(set(orders)) == 6
    assert len(set(offsets)) > 2
    again = Sequences(text, length=10, batch_size=4, seed=3)
    assert torch.equal(again.batch(4, 1)[0], sequences.batch(4, 1)[0])
    other = Sequences(text, length=10, batch_size=4, seed=4)
    assert not torch.equal(other.batch(4, 1)[0], sequences.batch(4, 1)[0])


def test_update_counts_of_the_papers() -> None:
    ptb = torch.empty(5_059_550, dtype=torch.uint8)
    assert Sequences(ptb, length=100, batch_size=64, seed=1).count == 50_594
    assert Sequences(ptb, length=100, batch_size=64, seed=1).epoch_length == 791
    text8 = torch.empty(1, dtype=torch.uint8).expand(90_000_000)
    assert Sequences(text8, length=180, batch_size=128, seed=1).count == 499_999
    assert Sequences(text8, length=180, batch_size=128, seed=1).epoch_length == 3907
    words = torch.empty(929_589, dtype=torch.int32)
    assert Streams(words, rows=32, window=20).count == 1452
    assert Streams(words, rows=32, window=35).count == 829


def test_a_stream_goes_on_where_the_window_before_ended() -> None:
    streams = Streams(torch.arange(100), rows=4, window=7)
    assert streams.count == 3
    inputs = torch.cat([streams.batch(position)[0] for position in range(3)])
    targets = torch.cat([streams.batch(position)[1] for position in range(3)])
    assert torch.equal(inputs, torch.arange(21)[:, None] + 25 * torch.arange(4))
    assert torch.equal(targets, inputs + 1)


def test_pieces_leave_no_single_row() -> None:
    text = torch.arange(71)
    batches = list(pieces(text, 10, 3))
    assert [inputs.shape[1] for inputs, _ in batches] == [3, 4]
    assert torch.cat([inputs[0] for inputs, _ in batches]).tolist() == list(range(0, 70, 10))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sequences(torch.zeros(19), 10, 2, 1), "19 symbols, too few for sequences of 10: at least 20"),
        (lambda: Sequences(torch.zeros(19), 1, 2, 1), "length must be at least 2, got 1"),
        (lambda: Streams(torch.zeros(20), 4, 5), "20 symbols, too few for 4 streams with windows of 5: at least 24"),
        (lambda: pieces(torch.zeros(9), 10, 2), "9 symbols, too few for one piece of 10"),
        (lambda: pieces(torch.zeros(0), 10, 2), "0 symbols, too few"),
    ],
)
def test_a_text_that_is_too_short_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("block", [1, 22, 50, 10_000])
def test_loss_and_gradients_are_those_of_the_whole_softmax(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnrnn.training.loss._BLOCK", block)
    torch.manual_seed(0)
    hidden = torch.randn(7, 3, 5, dtype=torch.double, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.double, requires_grad=True)
    bias = torch.randn(11, dtype=torch.double, requires_grad=True)
    targets = torch.randint(11, (7, 3))
    inputs = (hidden, weight, bias)

    loss, entropy, correct = linear_cross_entropy(hidden, weight, bias, targets)
    logits = hidden @ weight.t() + bias
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(loss, expected)
    assert int(correct) == int((logits.argmax(-1) == targets).sum())
    assert entropy == loss
    assert not entropy.requires_grad
    torch.testing.assert_close(torch.autograd.grad(2.5 * loss, inputs), torch.autograd.grad(2.5 * expected, inputs))


@pytest.mark.parametrize("block", [22, 10_000])
def test_a_floor_is_added_to_each_probability(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnrnn.training.loss._BLOCK", block)
    torch.manual_seed(0)
    hidden = torch.randn(7, 3, 5, dtype=torch.double, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.double, requires_grad=True)
    bias = torch.randn(11, dtype=torch.double, requires_grad=True)
    targets = torch.randint(11, (7, 3))
    inputs = (hidden, weight, bias)
    loss, entropy, _ = linear_cross_entropy(hidden, weight, bias, targets, floor=0.02)
    probabilities = torch.softmax(hidden @ weight.t() + bias, -1).gather(-1, targets[..., None])
    expected = -(probabilities + 0.02).log().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(entropy, -probabilities.log().mean(), check_dtype=False)
    torch.testing.assert_close(torch.autograd.grad(2.5 * loss, inputs), torch.autograd.grad(2.5 * expected, inputs))


def test_a_floor_bounds_the_loss_of_the_impossible() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight, bias = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    loss, entropy, _ = linear_cross_entropy(hidden, weight, bias, torch.tensor([0, 0]), floor=1e-6)
    assert loss.item() == pytest.approx(-math.log(1e-6) / 2, rel=1e-5)
    assert entropy.item() == 1000.0
    loss.backward()
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_loss_without_gradients_and_of_extreme_logits() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight, bias = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    with torch.no_grad():
        loss, _, correct = linear_cross_entropy(hidden, weight, bias, torch.tensor([0, 0]))
    assert (loss.item(), int(correct)) == (1000.0, 1)
    loss, *_ = linear_cross_entropy(hidden, weight, bias, torch.tensor([0, 0]))
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.tolist() == [[0.0], [-1.0]]


def test_the_loss_of_reduced_precision_is_summed_in_full() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(400, 8, dtype=torch.bfloat16, requires_grad=True)
    weight, bias = torch.randn(30, 8, requires_grad=True), torch.zeros(30, requires_grad=True)
    targets = torch.randint(30, (400,))
    loss, *_ = linear_cross_entropy(hidden, weight, bias, targets)
    expected = F.cross_entropy((hidden @ weight.bfloat16().t()).float(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_second_derivatives_are_refused() -> None:
    hidden = torch.randn(2, 3, requires_grad=True)
    loss, *_ = linear_cross_entropy(hidden, torch.randn(4, 3), torch.zeros(4), torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), hidden)


def test_bits_and_both_perplexities_by_hand() -> None:
    score = Score()
    # 6 predictions at probability 1/4, then 2 at probability 1/16
    for probability, correct, count in ((1 / 4, 3, 6), (1 / 16, 0, 2)):
        nats = torch.tensor(-math.log(probability))
        floored = torch.tensor(-math.log(probability + 0.05))
        score.add(Predicted(floored, nats, torch.tensor(correct)), count)
    assert score.bits == pytest.approx((6 * 2 + 2 * 4) / 8, rel=1e-6)
    assert score.loss == pytest.approx(2.5 * math.log(2), rel=1e-6)
    assert score.perplexity == pytest.approx(2**2.5, rel=1e-6)
    assert score.batch_perplexity == pytest.approx((1 / 0.3 + 1 / 0.1125) / 2, rel=1e-6)
    assert score.error == pytest.approx(5 / 8)
