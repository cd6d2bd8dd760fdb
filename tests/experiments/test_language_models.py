"""The language-model experiments on texts made up for the test."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import bnrnn
from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.experiments.experiment import Experiment
from bnrnn.experiments.language.char_lm import CHAR_LM, TextConfig
from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask, score_pieces, score_sequence
from bnrnn.experiments.language.model import VOCABULARY_KEY, LanguageModel, vocabulary_of
from bnrnn.experiments.language.ptb_word import PTB_WORD_LARGE, PTB_WORD_MEDIUM, PTB_WORD_SMALL
from bnrnn.experiments.language.text8 import TEXT8
from bnrnn.experiments.language.words import WordConfig, WordTask
from bnrnn.training import Purpose, generator
from bnrnn.training.evaluation import evaluate_statistics, with_population_statistics

SYMBOLS = Vocabulary(("a", "b", "c", "d", "e"))
CPU = torch.device("cpu")


def corpus(train: int = 400, valid: int = 90, test: int = 130) -> Corpus:
    random = torch.Generator().manual_seed(0)
    parts = [torch.randint(5, (n,), generator=random, dtype=torch.uint8) for n in (train, valid, test)]
    return Corpus("made up", "character", *parts, SYMBOLS)  # type: ignore[arg-type]


def characters(norm: str = "recurrent", **options: object) -> CharacterTask:
    config = CharacterConfig(norm=norm, units=6, length=10, batch_size=7, evaluation_batch_size=4, epochs=2)  # type: ignore[arg-type]
    return CharacterTask(dataclasses.replace(config, **options), corpus(), test_lengths=(20,))  # type: ignore[arg-type]


def words(norm: str = "input-frame", **options: object) -> WordTask:
    config = WordConfig(norm=norm, units=6, steps=5, batch_size=4, schedule="text")  # type: ignore[arg-type]
    return WordTask(dataclasses.replace(config, **options), corpus())  # type: ignore[arg-type]


def by_hand(model: LanguageModel, tokens: Tensor, targets: Tensor, start: int = 0) -> Tensor:
    """Cross-entropy of each prediction (T, B), through logits and one-hot inputs."""
    assert model.embedding is None
    x = F.one_hot(tokens.long(), len(model.vocabulary)).float()
    state = model.start(tokens.shape[1])
    hx = state if isinstance(model.rnn, bnrnn.LSTM) else state[0]
    output, _ = model.rnn(x, hx, start_step=start)
    logits = output @ model.readout.weight.t() + model.readout.bias
    return F.cross_entropy(logits.flatten(0, 1), targets.long().flatten(), reduction="none").view(tokens.shape)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("norm", ["none", "recurrent", "input-frame", "summed", "layer"])
def test_character_loss_by_hand(cell: str, norm: str) -> None:
    task = characters(norm, cell=cell)
    tokens, targets = task.batch(0, 1)
    step = task.loss(task.model, (tokens, targets), {})
    expected = by_hand(task.model, tokens, targets).mean()
    torch.testing.assert_close(step.loss, expected)
    assert step.metrics["bpc"].item() == pytest.approx(expected.item() / math.log(2), rel=1e-5)
    assert step.carry == {}
    step.loss.backward()
    trained = [p for p in task.model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert task.model.initial["h0"].grad is not None


def test_character_evaluation_by_hand() -> None:
    task = characters()
    model = with_population_statistics(task, task.model, CPU)
    with evaluate_statistics(model, "population"):
        found = task.evaluate(model, "test", "population")
        text = task.corpus.test
        for length, name in ((10, "bpc"), (20, "bpc_20")):
            rows = text[: len(text) // length * length].view(-1, length).t()
            expected = by_hand(model, rows[:-1], rows[1:]).mean().item() / math.log(2)  # type: ignore[arg-type]
            assert found[name] == pytest.approx(expected, rel=1e-5)
        whole = by_hand(model, text[:-1, None], text[1:, None]).mean().item() / math.log(2)  # type: ignore[arg-type]
        assert found["bpc_sequence"] == pytest.approx(whole, rel=1e-5)
        assert found["bpc"] == pytest.approx(found["loss"] / math.log(2))
    with evaluate_statistics(task.model, "batch"):
        batch = task.evaluate(task.model, "test", "batch")
    assert "bpc_sequence" not in batch
    assert batch["bpc"] != found["bpc"]
    plain = characters("none")
    with evaluate_statistics(plain.model, "batch"):
        assert "bpc_sequence" in plain.evaluate(plain.model, "test", "batch")


def test_chunks_of_a_long_sequence_do_not_change_its_score(monkeypatch: pytest.MonkeyPatch) -> None:
    task = characters()
    model = with_population_statistics(task, task.model, CPU)
    with evaluate_statistics(model, "population"):
        whole = score_sequence(model, task.corpus.test)
        for chunk in (1, 7, 64):
            monkeypatch.setattr("bnrnn.experiments.language.characters.CHUNK", chunk)
            parts = score_sequence(model, task.corpus.test)
            assert parts.bits == pytest.approx(whole.bits, rel=1e-6)
            assert (parts.predictions, parts.correct) == (whole.predictions, whole.correct)
            pieces = score_pieces(model, task.corpus.test, 30, 2, 1)
            monkeypatch.setattr("bnrnn.experiments.language.characters.CHUNK", 1000)
            assert pieces.bits == pytest.approx(score_pieces(model, task.corpus.test, 30, 2, 1).bits, rel=1e-6)


def test_population_statistics_do_not_depend_on_the_chunks_of_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    task = characters()
    whole = with_population_statistics(task, task.model, CPU).state_dict()
    monkeypatch.setattr("bnrnn.experiments.language.model._CHUNK", 4 * 40 * 24)  # four steps of the 40 sequences
    parts = with_population_statistics(task, task.model, CPU).state_dict()
    for name in ("mean", "var", "count"):
        torch.testing.assert_close(
            parts[f"rnn.norm_l0.recurrent.{name}"], whole[f"rnn.norm_l0.recurrent.{name}"], atol=1e-5, rtol=1e-4
        )
    assert (whole["rnn.norm_l0.cell.count"] > 0).tolist() == [True] * 9 + [False] * 55


@pytest.mark.parametrize("norm", ["none", "recurrent"])
def test_carried_state_makes_windows_one_sequence(norm: str) -> None:
    task = characters(norm, carry_state=True)
    model = with_population_statistics(task, task.model, CPU)
    carry = task.start(0)
    losses = []
    with evaluate_statistics(model, "population"):
        for position in range(3):
            step = task.loss(model, task.batch(0, position), carry)
            carry = step.carry
            losses.append(step.loss.item())
        if norm == "none":
            tokens = torch.cat([task.batch(0, position)[0] for position in range(3)])
            targets = torch.cat([task.batch(0, position)[1] for position in range(3)])
            expected = by_hand(model, tokens, targets).view(3, 9, -1).mean((1, 2))  # type: ignore[arg-type]
            assert losses == pytest.approx(expected.tolist(), rel=1e-5)
    assert set(carry) == {"h", "c"}
    assert not any(value.requires_grad for value in carry.values())


def test_population_pass_of_characters_is_the_training_text_shuffled() -> None:
    task = characters(population_batch_size=11)
    batches = [batch["tokens"] for batch in task.population_batches()]
    assert [tokens.shape[1] for tokens in batches] == [11, 11, 11, 7]
    found = torch.cat(batches, 1)
    in_order = task.corpus.train.view(40, 10).t()[:-1].long()
    assert not torch.equal(found, in_order)
    assert sorted(found.t().tolist()) == sorted(in_order.t().tolist())
    assert torch.equal(torch.cat([batch["tokens"] for batch in task.population_batches()], 1), found)


def test_evaluation_takes_batch_statistics_of_shuffled_pieces_of_the_first_so_many() -> None:
    """Bits per character of 7 pieces in batches of 3 and 4, in the order of the run's own generator."""
    task = characters(valid_pieces=7, evaluation_batch_size=3, seed=5)
    order = torch.randperm(7, generator=generator(5, Purpose.EVALUATION))
    assert order.tolist() != list(range(7))
    rows = task.corpus.valid[:70].view(7, 10)
    with evaluate_statistics(task.model, "batch"):
        found = task.evaluate(task.model, "valid", "batch")
        nats = 0.0
        for places in (order[:3], order[3:]):  # a single row is joined to the batch before
            tokens = rows[places].t()
            nats += by_hand(task.model, tokens[:-1], tokens[1:]).sum().item()
    assert found["loss"] == pytest.approx(nats / 63, rel=1e-5)


def test_rows_of_the_statistics_of_language_models() -> None:
    task = characters(evaluation_batch_size=4, population_batch_size=11)
    assert task.rows("valid", "batch") == task.rows("test", "batch") == 4
    assert task.rows("valid", "population") == 11
    few = characters(evaluation_batch_size=100, population_batch_size=100, valid_pieces=6)
    assert [few.rows(split, "batch") for split in ("train", "valid", "test")] == [40, 6, 13]  # type: ignore[arg-type]
    assert few.rows("valid", "population") == 40
    assert characters("none").rows("valid", "batch") is None
    assert characters("layer").rows("valid", "population") is None
    assert [words().rows("valid", kind) for kind in ("batch", "population")] == [4, 4]  # type: ignore[arg-type]
    assert words("none").rows("valid", "batch") is None


def test_plan_of_the_papers_character_models() -> None:
    assert TEXT8.config.length == 180
    assert TEXT8.config.batch_size == 128
    assert TEXT8.config.learning_rate == 1e-3
    assert (TEXT8.config.units, TEXT8.config.population_batch_size) == (2000, 1000)
    assert TEXT8.label(dataclasses.replace(TEXT8.config, slice=1000)) == "lstm-recurrent-seed1-slice1000"
    task = characters()
    assert task.plan.updates == 2 * task.epoch_length(0) == 2 * math.ceil((400 // 10 - 1) / 7)
    assert task.plan.clip == 1.0
    assert task.optimizer().param_groups[0]["lr"] == 2e-3


def test_initialisation_of_characters() -> None:
    task = characters("recurrent")
    weight = task.model.rnn.weight_hh_l0.detach()
    torch.testing.assert_close(weight.t() @ weight, torch.eye(6), atol=1e-5, rtol=0)
    assert task.model.rnn.bias_ih_l0.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
    readout = task.model.readout.weight.detach()
    torch.testing.assert_close(readout @ readout.t(), torch.eye(5), atol=1e-5, rtol=0)
    assert not task.model.readout.bias.any()
    same = characters("recurrent")
    assert torch.equal(same.model.rnn.weight_hh_l0, task.model.rnn.weight_hh_l0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "input-sequence"}, "look ahead in time"),
        ({"norm": "sequence-input"}, "look ahead in time"),
        ({"norm": "bad"}, "norm must be one of"),
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"units": 0}, "units must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"clip": -1.0}, "clip must be greater than 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"zoneout": -0.1}, r"zoneout must be in \[0, 1\), got -0.1"),
        ({"cell": "gru", "zoneout_cell": 0.5}, "zoneout_cell is of an LSTM's cell, and cell is 'gru'"),
        ({"norm": "none", "gamma": 0.1}, "gamma is the gain of a batch normalization, and norm 'none' has none"),
        ({"norm": "layer", "gamma": 0.1}, "norm 'layer' has none"),
        ({"gamma": float("nan")}, "gamma must be greater than 0, got nan"),
        ({"population_batch_size": 1}, "population_batch_size must be at least 2 with norm 'recurrent', got 1"),
        ({"evaluation_batch_size": 1}, "evaluation_batch_size must be at least 2 with norm 'recurrent', got 1"),
        ({"batch_size": 1, "norm": "summed"}, "batch_size must be at least 2 with norm 'summed', got 1"),
        ({"decay_epochs": 3}, "decay_epochs belongs to decay 'halving', and decay is 'none'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CharacterConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "input-sequence"}, "look ahead in time"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"init": 0.0}, "init must be greater than 0"),
    ],
)
def test_bad_options_of_words_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordConfig(**options)  # type: ignore[arg-type]


def test_one_row_is_enough_without_batch_statistics() -> None:
    CharacterConfig(norm="none", batch_size=1, population_batch_size=1, evaluation_batch_size=1)
    CharacterConfig(norm="layer", batch_size=1)


def test_a_batch_larger_than_the_text_is_refused() -> None:
    assert characters(batch_size=39).epoch_length(0) == 1
    with pytest.raises(ValueError, match=r"batch_size must be at most 39, the sequences of 10 symbols .* got 40"):
        characters(batch_size=40)


def test_step_sizes_by_warm_up_and_decay() -> None:
    """An epoch of 6 updates, two epochs."""
    plain = characters()
    assert [plain.learning_rate(epoch, 3) for epoch in (0, 1)] == [2e-3, 2e-3]
    task = characters(warmup=4, decay="linear")
    assert task.epoch_length(0) == 6
    expected = [min(1, (u + 1) / 4) * (1 - u / 12) * 2e-3 for u in range(12)]
    assert [task.learning_rate(u // 6, u % 6) for u in range(12)] == pytest.approx(expected)
    cosine = characters(decay="cosine")
    assert cosine.learning_rate(0, 0) == 2e-3
    assert cosine.learning_rate(1, 0) == pytest.approx(1e-3)
    assert cosine.learning_rate(1, 3) == pytest.approx(2e-3 * (1 + math.cos(0.75 * math.pi)) / 2)
    halved = characters(decay="halving", decay_epochs=2, epochs=6)
    assert [halved.learning_rate(epoch) * 1e3 for epoch in range(6)] == [2, 2, 1, 1, 0.5, 0.5]
    both = words(decay="linear", schedule="released", epochs=5)  # on top of the schedule, which halves the fifth epoch
    assert both.learning_rate(4, 0) == pytest.approx(0.5 * 0.2)


def test_a_part_that_is_too_short_is_named() -> None:
    config = CharacterConfig(units=4, length=50)
    with pytest.raises(ValueError, match="validation part of made up has 90 symbols, too few for two pieces of 50"):
        CharacterTask(config, corpus())
    with pytest.raises(ValueError, match="training text has 400 symbols, too few for sequences of 300"):
        CharacterTask(dataclasses.replace(config, length=300), corpus())
    with pytest.raises(ValueError, match="90 symbols, too few for 4 streams with windows of 60"):
        words(steps=60)


@pytest.mark.parametrize("norm", ["none", "input-frame"])
def test_word_loss_and_carry_by_hand(norm: str) -> None:
    task = words(norm)
    carry = task.start(0)
    assert all(not value.any() for value in carry.values())
    model = task.model.train()
    state: tuple[Tensor, Tensor] = (torch.zeros(2, 4, 6), torch.zeros(2, 4, 6))
    for position in range(3):
        tokens, targets, keep = task.batch(0, position)
        assert keep.item() == float(position > 0)
        step = task.loss(model, (tokens, targets, keep), carry)
        assert model.embedding is not None
        output, state = model.rnn(model.embedding(tokens), state)
        mean = F.cross_entropy(model.readout(output).flatten(0, 1), targets.flatten())
        torch.testing.assert_close(step.loss, 5 * mean)  # summed over the window's steps
        assert step.metrics["perplexity"].item() == pytest.approx(math.exp(mean.item()), rel=1e-5)
        torch.testing.assert_close(step.carry["h"], state[0])
        torch.testing.assert_close(step.carry["c"], state[1])
        carry = step.carry
    task.loss(model, task.batch(1, 0), carry)  # an epoch's first batch starts anew whatever is carried
    first = task.loss(model, task.batch(1, 0), carry).loss
    torch.testing.assert_close(first, task.loss(model, task.batch(0, 0), task.start(0)).loss)


def test_state_can_be_reset_twice_an_epoch() -> None:
    length = words().epoch_length(0)
    for resets, expected in ((1, [0]), (2, [0, length // 2])):
        task = words(resets=resets)
        starts = [position for position in range(length) if task.batch(0, position)[2] == 0]
        assert starts == expected


def test_word_evaluation_by_hand() -> None:
    task = words("none")
    with evaluate_statistics(task.model, "batch"):
        found = task.evaluate(task.model, "valid", "batch")
        streams = task.streams["valid"]
        losses = []
        state = None
        for position in range(streams.count):
            tokens, targets = streams.batch(position)
            logits, state = task.model(tokens, state=state)
            assert isinstance(logits, Tensor)
            losses.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item())
    assert streams.count == 4
    assert found["perplexity"] == pytest.approx(math.exp(sum(losses) / 4), rel=1e-5)
    assert found["batch_perplexity"] == pytest.approx(sum(map(math.exp, losses)) / 4, rel=1e-5)


@pytest.mark.parametrize(("options", "floor"), [({"schedule": "released"}, 1e-6), ({"probability_floor": 0.1}, 0.1)])
def test_the_floor_of_words_is_in_the_loss_and_the_headline(options: dict[str, object], floor: float) -> None:
    task = words("none", **options)
    assert task.config.rules.floor == floor
    tokens, targets, keep = task.batch(0, 0)
    logits, _ = task.model.train()(tokens)
    assert isinstance(logits, Tensor)
    expected = -(logits.softmax(-1).gather(-1, targets[..., None]) + floor).log().mean()
    step = task.loss(task.model, (tokens, targets, keep), task.start(0))
    torch.testing.assert_close(step.loss, 5 * expected)
    assert step.metrics["perplexity"].item() == pytest.approx(expected.exp().item(), rel=1e-6)
    with evaluate_statistics(task.model, "batch"):
        found = task.evaluate(task.model, "valid", "batch")
        true, floored, state = [], [], None
        for position in range(task.streams["valid"].count):
            tokens, targets = task.streams["valid"].batch(position)
            logits, state = task.model(tokens, state=state)
            assert isinstance(logits, Tensor)
            probabilities = logits.softmax(-1).gather(-1, targets[..., None])
            true.append(-probabilities.log().mean().item())
            floored.append(-(probabilities + floor).log().mean().item())
    assert found["perplexity"] == pytest.approx(math.exp(sum(true) / 4), rel=1e-6)
    assert found["batch_perplexity"] == pytest.approx(sum(map(math.exp, floored)) / 4, rel=1e-6)


def test_the_released_rules_of_words() -> None:
    """Two validations and two resets an epoch, and rows of training metrics that end at the validations."""
    assert {e.config.schedule for e in (PTB_WORD_SMALL, PTB_WORD_MEDIUM, PTB_WORD_LARGE)} == {"released"}
    whole = Corpus("made up", "word", *(torch.zeros(n, dtype=torch.uint8) for n in (929_589, 73_760, 82_430)), SYMBOLS)  # type: ignore[arg-type]
    task = WordTask(dataclasses.replace(PTB_WORD_SMALL.config, units=3), whole)
    assert task.plan.updates == 7260
    assert task.plan.evaluate_every == 726
    assert 726 % task.plan.log_every == 0
    assert task.starts == {0, 726}
    told = dataclasses.replace(PTB_WORD_SMALL.config, units=3, evaluate_every=100, resets=1, probability_floor=0.0)
    other = WordTask(told, whole)
    assert (other.plan.evaluate_every, other.starts, other.rules.floor) == (100, {0}, 0.0)
    earlier = PTB_WORD_SMALL.restore({"config": {"schedule": "released", "resets": 1}})
    assert earlier.rules.floor == 0.0  # what runs were made with before there was a floor
    text = PTB_WORD_SMALL.restore({"config": {"schedule": "text", "resets": 1}})
    assert text == dataclasses.replace(PTB_WORD_SMALL.config, schedule="text")


def test_population_statistics_of_words_are_per_position_of_the_window() -> None:
    task = words()
    model = with_population_statistics(task, task.model, CPU)
    site = model.rnn.norm_l0["input"]  # type: ignore[index, union-attr]
    assert site.rows_in_use == 5
    assert site.count[:5].tolist() == [task.streams["train"].count] * 5
    assert task.model.embedding is not None
    tokens = task.streams["train"].symbols[: site.count[0] * 5].long()
    projected = task.model.embedding(tokens) @ task.model.rnn.weight_ih_l0.t()
    means = projected.unflatten(0, (-1, 5)).mean(2).mean(0)
    torch.testing.assert_close(site.mean[:5], means, atol=1e-5, rtol=1e-4)


SCHEDULES = [
    (PTB_WORD_SMALL, "text", 15, {0: 1.0, 5: 1.0, 6: 0.5, 7: 0.25, 14: 0.5**9}),
    (PTB_WORD_SMALL, "released", 5, {0: 1.0, 3: 1.0, 4: 0.5}),
    (PTB_WORD_MEDIUM, "text", 40, {5: 1.0, 6: 1 / 1.2, 39: 1.2**-34}),
    (PTB_WORD_MEDIUM, "released", 39, {5: 1.0, 6: 1 / 1.2, 38: 1.2**-33}),
    (PTB_WORD_LARGE, "text", 55, {14: 1.0, 15: 1 / 1.15, 54: 1.15**-40}),
    (PTB_WORD_LARGE, "released", 55, {13: 1.0, 14: 1 / 1.15}),
]


@pytest.mark.parametrize(("experiment", "schedule", "epochs", "rates"), SCHEDULES)
def test_schedules(experiment: Experiment, schedule: str, epochs: int, rates: dict[int, float]) -> None:
    config = dataclasses.replace(experiment.config, schedule=schedule, units=3, steps=2, batch_size=2)
    task = WordTask(config, corpus())
    assert task.plan.updates == epochs * task.epoch_length(0)
    for epoch, rate in rates.items():
        assert task.learning_rate(epoch) == pytest.approx(rate)


def test_word_nets_of_the_paper() -> None:
    sizes = [
        (e.config.units, e.config.steps, e.config.dropout, e.config.init, e.config.clip)
        for e in (PTB_WORD_SMALL, PTB_WORD_MEDIUM, PTB_WORD_LARGE)
    ]
    assert sizes == [(200, 20, 0.0, 0.1, 5.0), (650, 35, 0.5, 0.05, 5.0), (1500, 35, 0.65, 0.04, 10.0)]
    assert all(e.config.batch_size == 32 for e in (PTB_WORD_SMALL, PTB_WORD_MEDIUM, PTB_WORD_LARGE))


def test_initialisation_of_words() -> None:
    plain = words("none").model
    assert isinstance(plain.rnn, bnrnn.LSTM)
    assert not plain.rnn.bias_hh_l1.requires_grad
    assert not plain.rnn.bias_hh_l1.any()
    for name, parameter in plain.named_parameters():
        if "bias_hh" not in name and "initial" not in name:
            assert 0.05 < parameter.abs().max() <= 0.1
    normalized = words().model
    assert not normalized.rnn.bias_ih_l0.any()
    site = normalized.rnn.norm_l1["input"]  # type: ignore[index, union-attr]
    assert site.gamma.tolist() == [1.0] * 24
    assert not any(p.requires_grad for p in normalized.initial.values())


def test_parameters_bring_their_vocabulary() -> None:
    model = characters().model
    state = model.state_dict()
    assert vocabulary_of(state[VOCABULARY_KEY]) == SYMBOLS
    other = CharacterConfig(units=6).build_model(Vocabulary(("a", "b", "c", "d", "x")))
    with pytest.raises(RuntimeError, match="its vocabulary of 5 symbols is not the text's of 5; 'e', 'x' are in one"):
        other.load_state_dict(state)
    turned = CharacterConfig(units=6).build_model(Vocabulary(("b", "a", "c", "d", "e")))
    with pytest.raises(RuntimeError, match="the order differs"):
        turned.load_state_dict(state)
    characters().model.load_state_dict(state)


def test_char_lm_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("no pain, no gain. " * 60, encoding="utf-8")
    config = TextConfig(text=(str(path),), units=4, length=20, batch_size=16)
    task = CHAR_LM.build(config)
    assert isinstance(task, CharacterTask)
    assert task.corpus.name == "text.txt"
    assert set(task.sources) == {"1. text.txt"}
    assert task.test_lengths == (1000,)
    assert CHAR_LM.label(config) == "text-lstm-recurrent-seed1"
    assert CHAR_LM.describe(config)["report"]["headline"] == "bpc"
    with pytest.raises(ValueError, match="--text FILE"):
        CHAR_LM.build(TextConfig())
    with pytest.raises(ValueError, match="too few"):
        CHAR_LM.build(TextConfig(text=(str(path),), units=4, length=100, batch_size=2))


def test_texts_are_kept_by_their_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = TextConfig(text=("a book.txt", "other/letters.md"))
    assert config.text == (str(tmp_path / "a book.txt"), str(tmp_path / "other/letters.md"))
    assert CHAR_LM.label(config) == "a-book+letters-lstm-recurrent-seed1"
    monkeypatch.chdir("/")
    assert CHAR_LM.restore(CHAR_LM.describe(config)) == config
