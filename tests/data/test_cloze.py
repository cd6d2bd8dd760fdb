"""Sentences, relevance and selection, and the sources Friends and bAbI."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from benchmarks.made_up_cnn import write_tar
from hypothesis import given
from hypothesis import strategies as st
from test_corpora import declare

from bnrnn.data import babi, friends
from bnrnn.data.cloze import (
    EOS,
    NIL,
    NUMBER,
    PLACEHOLDER,
    UNKNOWN,
    Builder,
    Item,
    Text,
    best_words,
    relevance,
    select,
    sentence_ends,
)
from bnrnn.data.registry import DataError


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("a b . c ! d ? e", [3, 5, 7, 8]),
        ("a b .", [3]),
        ("a b", [2]),
        ('he said : " i go . " she left .', [8, 11]),
        ('" i go . i stay . " " why ? "', [4, 8, 12]),
        ("the u.s. and p.m. end no sentence", [7]),
        ("", [0]),
    ],
)
def test_sentences_end_at_full_stops_and_closing_quotes(text: str, ends: list[int]) -> None:
    assert sentence_ends(text.split()) == ends


def test_relevance_counts_different_words_of_the_question() -> None:
    passage = ["the", "cat", "sat", ".", "the", "the", "the", ".", "a", "dog", ",", "a", "dog", "."]
    question = f"the dog , {PLACEHOLDER} sat on {PLACEHOLDER[1:]}".split()
    assert relevance(passage, sentence_ends(passage), question) == [2, 1, 1]


def item(ends: list[int], found: list[int]) -> Item:
    nothing = np.zeros(0, np.int32)
    return Item(np.arange(ends[-1]), np.array(ends), np.array(found), nothing, nothing, 0)


def test_the_best_sentences_keep_their_order_and_the_earlier_of_equals_wins() -> None:
    five = item([2, 3, 6, 7, 9], [1, 0, 2, 1, 1])
    assert select(five, 2).tolist() == [0, 1, 3, 4, 5]
    assert select(five, 3).tolist() == [0, 1, 3, 4, 5, 6]
    assert select(five, 0).tolist() == select(five, 5).tolist() == select(five, 9).tolist() == list(range(9))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=7), st.integers(1, 8))
def test_selection_in_words_is_that_in_indices(sentences: list[tuple[int, int]], count: int) -> None:
    ends = np.cumsum([length for length, _ in sentences]).tolist()
    found = [value for _, value in sentences]
    words = [str(k) for k in range(ends[-1])]
    expected = select(item(ends, found), count).tolist()
    assert best_words(Text(words, ends, [], [], ""), found, count) == [words[k] for k in expected]
    assert expected == sorted(expected)


def test_reserved_indices_and_rare_words() -> None:
    builder = Builder()
    text = Text(["a", "a", "7", "once", "<unk>"], [5], [PLACEHOLDER, "12"], ["a"], "a")
    builder.add("train", text)
    builder.add("valid", text._replace(passage=["once", "twice", "twice", "a", "3rd"]))
    data = builder.finish("made up")
    assert (NIL, EOS, UNKNOWN, NUMBER) == (0, 1, 2, 3)
    assert data.words.vocabulary.symbols == ("<nil>", "<eos>", "<unk>", "<num>", "a")
    assert data.train[0].passage.tolist() == [4, 4, NUMBER, UNKNOWN, UNKNOWN]
    assert data.train[0].question.tolist() == [UNKNOWN, NUMBER]
    assert data.valid[0].passage.tolist() == [UNKNOWN, UNKNOWN, UNKNOWN, 4, UNKNOWN]
    assert data.words.encode(["a", "5", "b"]).tolist() == [4, NUMBER, UNKNOWN]
    again = data.words.item(text)
    for one, other in zip(again, data.train[0], strict=True):
        assert np.array_equal(one, other)


def test_markers_are_known_by_their_form_and_sorted_by_number() -> None:
    builder = Builder()
    words = ["@entity10", "@entity2", "@ent03", "@entityx", "@placeholder"] * 2
    builder.add("train", Text(words, [10], [], [], "@entity2"))
    data = builder.finish("made up")
    symbols = data.words.vocabulary.symbols
    assert [symbols[index] for index in data.words.entities] == ["@entity2", "@ent03", "@entity10"]


DIALOGUES = [
    {
        "scene_id": f"s{k}",
        "query": f"@placeholder meets @ent0{k} twice",
        "answer": "@ent01",
        "utterances": [
            {"speakers": "@ent01 @ent00", "tokens": "Hello 12 there . Bye"},
            {"speakers": "", "tokens": f"( @ent0{k} leaves )"},
        ],
    }
    for k in range(5)
]


def put_friends(folder: Path, monkeypatch: pytest.MonkeyPatch, dialogues: list[dict]) -> None:
    files = [(f"./reading-comprehension-{part}.json", json.dumps(dialogues).encode()) for part in ("dev", "tst")]
    declare(folder, monkeypatch, friends.FILE, lzma.compress(write_tar(files)))


def test_friends_utterances_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_friends(tmp_path, monkeypatch, DIALOGUES)
    monkeypatch.setattr(friends, "VALID", 2)
    data = friends.load()
    assert (len(data.train), len(data.valid), len(data.test)) == (3, 2, 5)
    symbols = data.words.vocabulary.symbols
    first = data.test[3]
    assert first.ends.tolist() == [8, 13]
    assert [symbols[k] for k in first.passage[:4]] == ["@ent01", "@ent00", ":", "hello"]
    assert first.passage[4] == NUMBER
    assert symbols[first.answer] == "@ent01"
    assert [symbols[k] for k in first.candidates][:2] == ["@ent00", "@ent01"]


@pytest.mark.parametrize(
    "change", [{"answer": "@ent09"}, {"query": "nobody meets"}, {"query": "@placeholder @placeholder"}]
)
def test_friends_questions_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    put_friends(tmp_path, monkeypatch, [{**DIALOGUES[0], **change}])
    with pytest.raises(DataError, match="a question on dialogue s0 is not a cloze question"):
        friends.load()


def test_a_friends_file_without_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(tmp_path, monkeypatch, friends.FILE, lzma.compress(write_tar([("a", b"b")])))
    with pytest.raises(DataError, match="no part dev"):
        friends.load()


STORIES = """\
1 Mary moved to the hall.
2 Where is Mary? \thall\t1
3 John went to the park.
4 Is John in the hall?\tno\t3
"""


def put_babi(folder: Path, monkeypatch: pytest.MonkeyPatch, train: str) -> None:
    files = [(f"./en-10k/qa1_single-fact_{part}.txt", text.encode()) for part, text in
             (("train", train), ("test", STORIES))]  # fmt: skip
    declare(folder, monkeypatch, babi.FILE, lzma.compress(write_tar(files)))


def test_babi_questions_become_cloze_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_babi(tmp_path, monkeypatch, STORIES * 20)
    data = babi.load(1)
    assert (len(data.train), len(data.valid), len(data.test)) == (36, 4, 2)
    symbols = data.words.vocabulary.symbols
    second = data.train[1]
    assert " ".join(symbols[k] for k in second.passage) == "mary moved to the hall . john went to the park ."
    assert " ".join(symbols[k] for k in second.question) == "is john in the hall ? @placeholder"
    assert second.ends.tolist() == [6, 12]
    assert [symbols[k] for k in second.candidates] == ["hall", "no"]
    assert symbols[second.answer] == "no"
    assert data.words.answers == ("hall", "no")
    assert data.words.entities == []


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where is Mary?", "@placeholder is mary ?"),
        ("What is the office north of?", "@placeholder is the office north of ?"),
        ("How many objects is Mary carrying?", "@placeholder many objects is mary carrying ?"),
        ("Is the box bigger than the chest?", "is the box bigger than the chest ? @placeholder"),
        ("Who gave the apple to Mary?", "@placeholder gave the apple to mary ?"),
    ],
)
def test_the_placeholder_takes_the_question_words_place(question: str, expected: str) -> None:
    assert " ".join(babi.cloze(question)) == expected


def test_babi_says_which_task_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_babi(tmp_path, monkeypatch, STORIES)
    with pytest.raises(DataError, match="has no train part of task 3"):
        babi.load(3)
    with pytest.raises(ValueError, match="task must be 1 to 20, got 21"):
        babi.load(21)


@pytest.mark.real_data
def test_the_real_sets_have_their_counts() -> None:
    data = friends.load()
    assert (len(data.train), len(data.valid), len(data.test)) == (1100, 249, 1353)
    assert len(data.words.vocabulary) == 5548
    assert len(data.words.entities) == 15
    for part in (data.train, data.valid, data.test):
        assert all(part[k].answer in part[k].passage for k in range(len(part)))
    for task, words, answers in ((1, 25, 6), (4, 20, 6), (15, 23, 4)):
        data = babi.load(task)
        assert (len(data.train), len(data.valid), len(data.test)) == (9000, 1000, 1000)
        assert (len(data.words.vocabulary), len(data.words.answers)) == (words, answers)
    with pytest.raises(DataError, match="has no train part of task 3"):
        babi.load(3)
