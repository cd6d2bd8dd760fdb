"""Reading tasks: batches, what each option does, the papers' values, and evaluation."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from questions import MARKERS, data
from torch import Tensor, nn

from bnrnn.data.cloze import NIL, UNKNOWN
from bnrnn.experiments.reading.batches import Batch, Question, Renaming, collate
from bnrnn.experiments.reading.config import ReadingConfig
from bnrnn.experiments.reading.model import VARIANTS, Answer, Variant
from bnrnn.experiments.reading.task import ReadingTask
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.training.evaluation import evaluate, with_population_statistics

SMALL = {
    "units": 6,
    "batch_size": 5,
    "learning_rate": 0.01,
    "updates": 20,
    "bidirectional": False,
    "mean_passage": True,
}


def config(**options: Any) -> ReadingConfig:
    return ReadingConfig(**{"variant": "bn-e-star", **SMALL, **options})


def task(**options: Any) -> ReadingTask:
    return ReadingTask(config(**options), data())


def columns(batch: Batch) -> list[tuple[list[int], list[int], int]]:
    """Passage, question and answer of each question of a batch, without padding."""
    return [
        (
            batch.passage[: batch.passage_lengths[k], k].tolist(),
            batch.question[: batch.question_lengths[k], k].tolist(),
            int(batch.answers[k]),
        )
        for k in range(len(batch.answers))
    ]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_batches_are_a_function_of_seed_epoch_and_position() -> None:
    first, second = task(bucket=3), task(bucket=3)
    for place in ((0, 3), (2, 0), (0, 3), (0, 4), (0, 0)):
        assert same(first.batch(*place), second.batch(*place))
    assert not same(first.batch(0, 3), first.batch(1, 3))
    assert not same(first.batch(0, 3), task(bucket=3, seed=2).batch(0, 3))


def test_with_replacement_every_question_comes_as_often_as_any() -> None:
    built = task(shuffle="none", batch_size=10)
    assert built.epoch_length(0) == 4
    seen: Counter[str] = Counter()
    for epoch in range(100):
        for position in range(4):
            seen.update(str(column) for column in columns(built.batch(epoch, position)))
    assert len(seen) == 41
    assert 60 < min(seen.values()) < max(seen.values()) < 140
    (batch,) = [built.batch(0, position) for position in range(1)]
    assert len(batch.answers) == 10


def test_in_order_an_epoch_walks_through_the_part_and_drops_the_rest() -> None:
    built = task(sampling="order", shuffle="none")
    shown = [column for position in range(built.epoch_length(0)) for column in columns(built.batch(0, position))]
    part = built.parts["train"]
    assert len(shown) == 40
    for (passage, question, answer), index in zip(shown, range(40), strict=True):
        assert passage == part[index].passage.tolist()
        assert question == part[index].question.tolist()
        assert answer == part[index].answer


def test_buckets_are_sorted_by_length_the_longest_first() -> None:
    built = task(sampling="order", shuffle="none", bucket=3)
    lengths = [built.batch(0, position).passage_lengths.tolist() for position in range(8)]
    for first in (0, 3, 6):
        joined = [length for batch in lengths[first : first + 3] for length in batch]
        own = [len(built.parts["train"][k].passage) for k in range(5 * first, 5 * first + len(joined))]
        assert joined == sorted(own, reverse=True)
        assert joined != own


@pytest.mark.parametrize("shuffle", ["text", "batch", "none"])
def test_names_are_exchanged_alike_throughout_a_text(shuffle: Any) -> None:
    built, plain = task(sampling="order", shuffle=shuffle), task(sampling="order", shuffle="none")
    markers = {index: built.data.words.entities.index(index) for index in built.data.words.entities}
    assert len(markers) == len(MARKERS)
    exchanges = []
    for one, other in zip(columns(built.batch(0, 1)), columns(plain.batch(0, 1)), strict=True):
        pairs = {(b, a) for part in (0, 1) for a, b in zip(one[part], other[part], strict=True)} | {(other[2], one[2])}
        exchange = dict(pairs)
        assert len(exchange) == len(pairs) == len(set(exchange.values()))  # one for each, and each for one
        assert all(b in markers if a in markers else a == b for a, b in pairs)
        exchanges.append({a: b for a, b in pairs if a in markers})
    agree = all(a[k] == b[k] for a in exchanges for b in exchanges for k in a.keys() & b.keys())
    assert agree == (shuffle != "text")
    changed = any(a != b for exchange in exchanges for a, b in exchange.items())
    assert changed == (shuffle != "none")


def test_a_renaming_reaches_every_order_of_the_markers() -> None:
    renaming = Renaming([7, 4, 9], 10)
    random = torch.Generator().manual_seed(1)
    drawn = Counter(tuple(renaming.draw(random).tolist()) for _ in range(600))
    assert len(drawn) == 6
    assert min(drawn.values()) > 60
    question = Question(np.array([1, 7, 9, 4]), np.array([9]), np.array([4, 7, 9]), 7)
    passage, asked, candidates, answer = renaming(question, np.array([4, 9, 7]))
    assert (passage.tolist(), asked.tolist(), candidates.tolist(), answer) == ([1, 4, 7, 9], [7], [9, 4, 7], 4)
    assert Renaming([], 10)(question, np.zeros(0, np.int64)).passage.tolist() == [1, 7, 9, 4]


def test_padding_repeats_the_text_or_is_zero() -> None:
    nothing = np.zeros(0, np.int32)
    two = [Question(np.arange(5, 9), np.array([3]), nothing, 5), Question(np.array([6]), np.array([4, 5]), nothing, 6)]
    batch = collate(two, "repeat")
    assert batch.passage.t().tolist() == [[5, 6, 7, 8], [6, NIL, 6, NIL]]
    assert batch.question.t().tolist() == [[3, NIL], [4, 5]]
    assert batch.passage_lengths.tolist() == [4, 1]
    assert batch.question_lengths.tolist() == [1, 2]
    assert batch.answers.tolist() == [5, 6]
    assert collate(two, "zeros").passage.t().tolist() == [[5, 6, 7, 8], [6, NIL, NIL, NIL]]


def test_sentences_and_longest_shorten_what_is_read() -> None:
    built = task(sentences=1, longest=2, shuffle="none", sampling="order")
    item = built.parts["train"][0]
    best = int(item.relevance.argmax())
    start = item.ends[best - 1] if best else 0
    assert columns(built.batch(0, 0))[0][0] == item.passage[start : start + 2].tolist()


@pytest.mark.parametrize(
    ("name", "variant", "settings", "expected"),
    [
        # units, rate, batch, both directions, mean passage, padding
        ("cnn-top4", "lstm", "default", (240, 8e-5, 64, False, True, "zeros")),
        ("cnn-top4", "bn-lstm", "default", (240, 8e-5, 64, False, True, "zeros")),
        ("cnn-top4", "bn-everywhere", "code", (240, 8e-5, 64, False, True, "zeros")),
        ("cnn-top4", "bn-e-star", "text", (240, 8e-4, 40, False, True, "repeat")),
        ("cnn-top4", "bn-e-star-star", "default", (240, 8e-4, 40, True, True, "repeat")),
        ("cnn-top4", "bn-e-star-star", "text", (240, 8e-4, 40, True, True, "repeat")),
        ("cnn-top4", "bn-e-star-star", "code", (240, 8e-5, 64, True, True, "repeat")),
        ("cnn-full", "lstm", "default", (280, 8e-5, 64, True, False, "zeros")),
        ("cnn-full", "lstm", "code", (280, 8e-5, 64, True, False, "zeros")),
        ("cnn-full", "lstm", "text", (240, 8e-5, 64, False, False, "zeros")),
        ("cnn-full", "bn-e-star-star", "default", (120, 8e-4, 40, True, True, "repeat")),
        ("cnn-full", "bn-e-star-star", "code", (120, 8e-4, 64, False, True, "repeat")),
    ],
)
def test_the_papers_values_are_the_defaults(name: str, variant: Variant, settings: Any, expected: tuple) -> None:
    default = dataclasses.replace(EXPERIMENTS[name].config, variant=variant, settings=settings)
    own = ("units", "learning_rate", "batch_size", "bidirectional", "mean_passage", "padding")
    assert tuple(map(default.own, own)) == expected
    assert default.own("evaluation_batch_size") == expected[2]
    assert (default.similarity, default.gamma, default.dropout) == (True, 0.1, 0.5)
    assert (default.clip, default.clip_rule, default.evaluate_every) == (10.0, "norm", 1000)
    assert (default.sampling, default.shuffle, default.equal_blocks, default.masked) == (
        "replacement",
        "text",
        True,
        True,
    )
    assert (default.sentences, default.bucket) == ((4, 1) if name == "cnn-top4" else (0, 12))
    assert default.selection == "error"


@pytest.mark.parametrize("name", ["cnn-top4", "cnn-full", "friends-cloze", "babi"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_its_values(name: str, variant: Variant) -> None:
    experiment = EXPERIMENTS[name]
    chosen = dataclasses.replace(experiment.config, variant=variant)
    assert chosen.own("updates") >= 400
    assert chosen.own("bidirectional") == (variant == "bn-e-star-star" or (name, variant) == ("cnn-full", "lstm"))
    described = experiment.describe(chosen)
    assert described["report"]["variant"].lower().replace("*", "-star") == variant
    assert described["report"]["headline"] == "error"
    assert experiment.restore(described) == chosen


def test_a_report_says_what_differs_from_the_paper() -> None:
    experiment = EXPERIMENTS["cnn-top4"]

    def comparable(**options: Any) -> Any:
        return experiment.describe(dataclasses.replace(experiment.config, **options))["report"]["comparable"]

    assert comparable(variant="bn-e-star") is True
    assert comparable(variant="bn-e-star", settings="code") is True
    assert comparable(variant="bn-e-star", units=48) == "units is 48, in the paper 240"
    assert comparable(variant="bn-lstm") == "padding enters no statistics, in the paper it does"
    assert "sentences is 0, in the paper 4" in comparable(sentences=0)
    assert EXPERIMENTS["babi"].describe(EXPERIMENTS["babi"].config)["report"]["group"] == "task 1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"evaluation_batch_size": 1}, "evaluation_batch_size must be at least 2 with batch normalization"),
        ({"masked": False, "bidirectional": True}, "masked must be on with both directions"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"gamma": 0.0}, "gamma must be greater than 0"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1"),
        ({"variant": "bn"}, "variant must be one of lstm, bn-lstm"),
        ({"clip": -1.0}, "clip must be greater than 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**options)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at most 41, the training questions, got 42"):
        task(batch_size=42)


class Told(nn.Module):
    """Says the same to everything: so much for each word."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores, requires_grad=False)

    def forward(self, passage: Tensor, *rest: Tensor) -> Answer:
        return Answer(self.scores.expand(passage.shape[1], -1), torch.zeros(passage.shape))


def test_error_is_over_all_words_and_candidate_error_over_the_candidates() -> None:
    built = task()
    entities = built.data.words.entities
    scores = torch.zeros(len(built.data.words.vocabulary))
    scores[entities[3]], scores[entities[5]] = 3.0, 2.0
    part = built.parts["test"]
    found = built.evaluate(Told(scores), "test", "batch")
    answers = np.array([part[k].answer for k in range(len(part))])
    probabilities = scores.double().softmax(0).numpy()
    assert found["loss"] == pytest.approx(-np.log(probabilities[answers] + 1e-8).mean(), rel=1e-6)
    assert found["error"] == pytest.approx((answers != entities[3]).mean())
    assert found["accuracy"] == pytest.approx(1 - found["error"])
    chosen = [
        max(part[k].candidates.tolist(), key=lambda index: (float(scores[index]), -index)) for k in range(len(part))
    ]
    ties = [max(scores[part[k].candidates.tolist()]) == 0 for k in range(len(part))]
    expected = [a != b for a, b, tie in zip(chosen, answers, ties, strict=True) if not tie]
    assert sum(expected) <= found["candidate_error"] * len(part) <= sum(expected) + sum(ties)


def test_an_answer_that_the_vocabulary_lacks_is_never_right() -> None:
    built = task()
    built.parts["test"] = dataclasses.replace(
        built.parts["test"],
        answers=np.full(9, UNKNOWN, np.int32),
        candidates=built.parts["test"].candidates._replace(values=np.full(27, UNKNOWN, np.int32)),
    )
    scores = torch.zeros(len(built.data.words.vocabulary))
    scores[UNKNOWN] = 5.0
    found = built.evaluate(Told(scores), "test", "batch")
    assert (found["error"], found["candidate_error"]) == (1.0, 1.0)


def test_valid_questions_limit_the_validation_part_alone() -> None:
    built = task(valid_questions=4)
    model = Told(torch.zeros(len(built.data.words.vocabulary)))
    seen = [len(judged.questions) for judged in built.answers(model, "valid", 4)]
    assert sum(seen) == 4
    assert sum(len(judged.questions) for judged in built.answers(model, "test")) == 9
    assert [len(judged.questions) for judged in task(batch_size=4).answers(model, "valid")] == [4, 4, 5]  # never 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluation_has_both_statistics_and_says_over_how_many_rows(variant: Variant) -> None:
    built = task(variant=variant, population_batch_size=7)
    found = evaluate(built, built.model, ["valid"], ["batch", "population"], torch.device("cpu"))["valid"]
    normalized = variant != "lstm"
    assert (found["batch"] != found["population"]) == normalized
    assert built.rows("valid", "batch") == (5 if normalized else None)
    assert built.rows("valid", "population") == (7 if normalized else None)


def test_population_statistics_come_from_the_whole_part_or_its_first_batches() -> None:
    built = task()
    assert [len(batch["passage_lengths"]) for batch in built.population_batches()] == [5] * 7 + [6]
    limited = task(population_batches=3)
    assert len(list(limited.population_batches())) == 3
    judged = with_population_statistics(built, built.model, torch.device("cpu"))
    norm = judged.get_submodule("ff_att_ctx.norm")
    assert int(norm.get_buffer("count")[0]) == 8


def test_a_reader_learns_to_look_beside_the_word_it_is_asked_for() -> None:
    built = ReadingTask(config(units=24, batch_size=20, dropout=0.0, updates=1), data(train=400, valid=60))
    optimizer = built.optimizer()
    for update in range(250):
        torch.manual_seed(update)
        step = built.loss(built.model.train(), built.batch(update // 20, update % 20), {})
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
    found = evaluate(built, built.model, ["valid"], ["batch"], torch.device("cpu"))["valid"]
    assert found["batch"]["error"] < 0.4  # a guess among the three names has 0.67
