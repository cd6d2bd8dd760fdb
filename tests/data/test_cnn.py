"""The CNN corpus: parsing, what is left out and why, and the cache, which is whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from benchmarks.made_up_cnn import members, write_archive

from bnrnn.data import cnn, registry
from bnrnn.data.cloze import NUMBER, RESERVED, UNKNOWN, Cloze, select
from bnrnn.data.cnn import TRUNCATED, LeftOutError, parse
from bnrnn.data.registry import DataError

PASSAGE = "@entity2 said on monday that 120 people met @entity7 . the talks failed ! @entity2 left"
QUESTION = "the talks with @placeholder failed"


def content(
    passage: str = PASSAGE,
    question: str = QUESTION,
    answer: str = "@entity7",
    names: str = "@entity2:Ann\n@entity7:Bob",
) -> bytes:
    return f"http://example.org\n\n{passage}\n\n{question}\n\n{answer}\n\n{names}\n".encode()


Files = dict[str, bytes]
GOOD: Files = {
    "questions/training/c.question": content(),
    "questions/training/a.question": content("@entity7 slept . Ann 's Dog slept", "@placeholder slept"),
    "questions/training/b.question": content("the dog slept at 9 .", "@placeholder slept"),
    "questions/validation/d.question": content(),
    "questions/test/e.question": content("the cat slept in 1999 .", "@placeholder slept"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNRNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cnn" / "questions"


def archive(folder: Path, files: Files, name: str = "cnn.tgz") -> Path:
    return write_archive(folder / name, list(files.items()))


def unpacked(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "questions"


def spelled(data: Cloze, part: str) -> list[tuple[str, str, str]]:
    """Passage, question and answer of each question of a part."""
    symbols = data.words.vocabulary.symbols

    def spell(indices: Iterable[int]) -> str:
        return " ".join(symbols[index] for index in indices)

    items = [getattr(data, part)[k] for k in range(len(getattr(data, part)))]
    return [(spell(item.passage), spell(item.question), symbols[item.answer]) for item in items]


def test_a_question_file_has_five_parts() -> None:
    text = parse(content())
    assert list(text.passage) == PASSAGE.split()
    assert list(text.ends) == [10, 14, 16]
    assert list(text.question) == QUESTION.split()
    assert list(text.candidates) == ["@entity2", "@entity7"]
    assert text.answer == "@entity7"


BAD = {
    "no placeholder": content(question="the talks failed"),
    "more than one placeholder": content(question="@placeholder and @placeholder met"),
    "an answer that is not among the entities": content(answer="@entity9"),
    "empty passage": content(passage="  "),
    "bytes that are not UTF-8": content().replace(b"monday", b"m\xf6nday"),
    "not five parts with a blank line between them": b"some text\n",
}


@pytest.mark.parametrize("reason", BAD)
def test_files_that_cannot_be_used_say_why(reason: str) -> None:
    with pytest.raises(LeftOutError, match=re.escape(reason)):
        parse(BAD[reason])
    if reason == "empty passage":
        with pytest.raises(LeftOutError, match=r"^empty passage$"):
            parse(content(passage=""))


@pytest.mark.parametrize("form", ["archive", "folder", "plain tar"])
def test_preparing_encodes_by_the_training_part(form: str, tmp_path: Path) -> None:
    if form == "archive":
        source = archive(tmp_path, GOOD)
    elif form == "folder":
        source = unpacked(tmp_path, GOOD)
    else:
        with tarfile.open(tmp_path / "cnn.tar", "w") as tar:
            tar.add(unpacked(tmp_path, GOOD), "cnn/questions")
        source = tmp_path / "cnn.tar"
    found = cnn.prepare(source)
    assert found.fresh
    assert found.questions == {"train": 3, "valid": 1, "test": 1}
    assert found.left_out == {}
    assert found.noted == {"an answer that the passage does not name": (2, next(iter(found.noted.values()))[1])}
    data = cnn.load()
    # in the training part at least twice, numbers aside: by count, then alphabetically
    words = ("@entity7", "slept", ".", "@placeholder", "the", "@entity2", "dog", "failed", "talks")
    assert data.words.vocabulary.symbols == (*RESERVED, *words)
    assert spelled(data, "train") == [
        ("@entity7 slept . <unk> <unk> dog slept", "@placeholder slept", "@entity7"),
        ("the dog slept <unk> <num> .", "@placeholder slept", "@entity7"),
        (
            "@entity2 <unk> <unk> <unk> <unk> <num> <unk> <unk> @entity7 . the talks failed <unk> @entity2 <unk>",
            "the talks <unk> @placeholder failed",
            "@entity7",
        ),
    ]
    assert spelled(data, "test") == [("the <unk> slept <unk> <num> .", "@placeholder slept", "@entity7")]
    item = data.valid[0]
    assert item.relevance.tolist() == [0, 3, 0]
    assert [data.words.vocabulary.symbols[k] for k in item.candidates] == ["@entity2", "@entity7"]
    assert found.answerable["train"] == pytest.approx(2 / 3)
    assert found.vocabulary == len(data.words.vocabulary) == 13


def test_what_is_left_out_is_counted_and_named_and_strict_makes_it_an_error(tmp_path: Path) -> None:
    files = {
        **{f"questions/training/{k}.question": bad for k, bad in enumerate(BAD.values())},
        "questions/README": b"hello",
        "questions/training/._c.question": b"resource fork",
        "questions/training/whole.question": content("one sentence without an end about @entity7"),
        **GOOD,
    }
    source = archive(tmp_path, files)
    found = cnn.prepare(source)
    expected = {reason: (1, f"questions/training/{k}.question") for k, reason in enumerate(BAD)}
    assert found.left_out == {**expected, "not a question": (2, "questions/README")}
    assert found.noted["a passage without a sentence end, taken as one sentence"] == (
        1,
        "questions/training/whole.question",
    )
    assert found.questions == {"train": 4, "valid": 1, "test": 1}
    before = cnn.load().train.answers.tolist()
    with pytest.raises(DataError, match=r"training/0\.question: no placeholder"):
        cnn.prepare(source, strict=True)
    assert cnn.load().train.answers.tolist() == before


def test_an_archive_that_ends_too_early_is_told(tmp_path: Path) -> None:
    source = archive(tmp_path, {**GOOD, "questions/test/z.question": content(" ".join(map(str, range(60_000))))})
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=TRUNCATED):
        cnn.prepare(source, strict=True)
    found = cnn.prepare(source)
    assert found.left_out == {TRUNCATED: (1, "after questions/test/e.question")}
    assert found.questions == {"train": 3, "valid": 1, "test": 1}
    assert cnn.load().name == "CNN (from a truncated archive)"
    source.write_bytes(whole[:-4])
    assert cnn.prepare(source).left_out == {TRUNCATED: (1, "after questions/test/z.question")}


def test_a_plain_archive_that_ends_between_two_members_is_told_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cnn.tar", "w") as tar:
        tar.add(unpacked(tmp_path, GOOD), "questions")
        end = tar.offset
    source = tmp_path / "cnn.tar"
    os.truncate(source, end)
    assert TRUNCATED in cnn.prepare(source).left_out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"not an archive at all, but long enough" * 40), "nothing of it can be read"),
        (lambda path: path.unlink(), "there is no"),
        (lambda path: archive(path.parent, {"questions/training/a.question": content()}), "validation, test"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, damage: object, words: str) -> None:
    source = archive(tmp_path, GOOD)
    assert callable(damage)
    damage(source)
    with pytest.raises(DataError, match=words):
        cnn.prepare(source)
    with pytest.raises(DataError, match="is not prepared; run bnrnn data prepare cnn"):
        cnn.load()


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_the_cache_is_made_anew_when_source_or_settings_change(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = archive if form == "archive" else unpacked
    source = make(tmp_path, GOOD)
    assert cnn.prepare(source).fresh
    again = cnn.prepare(source)
    assert not again.fresh
    assert again.questions == {"train": 3, "valid": 1, "test": 1}
    first = cnn.load()
    make(tmp_path, {**GOOD, "questions/training/x.question": content()})
    assert len(cnn.load().train) == 4  # by itself, from where it came
    assert cnn.load().sources != first.sources
    assert not cnn.prepare(source).fresh
    monkeypatch.setitem(cnn.SETTINGS, "format", 2)
    assert cnn.prepare(source).fresh
    monkeypatch.setitem(cnn.SETTINGS, "format", 3)
    shutil.move(source, tmp_path / "elsewhere")
    with pytest.raises(DataError, match="prepared by another version"):
        cnn.load()


def test_an_archive_that_was_only_touched_or_moved_is_the_same(tmp_path: Path) -> None:
    source = archive(tmp_path, GOOD)
    cnn.prepare(source)
    os.utime(source, (1, 1))
    assert not cnn.prepare(source).fresh
    assert not cnn.prepare(source.rename(tmp_path / "other.tgz")).fresh


def test_the_cache_does_not_need_its_source(tmp_path: Path) -> None:
    source = archive(tmp_path, GOOD)
    cnn.prepare(source)
    source.unlink()
    assert len(cnn.load().train) == 3


def test_a_damaged_cache_is_told(tmp_path: Path, cache: Path) -> None:
    cnn.prepare(archive(tmp_path, GOOD))
    os.truncate(cache / "train.passages.i32", 8)
    with pytest.raises(DataError, match=r"damaged .*train.passages.i32 is not whole"):
        cnn.load()


def test_a_killed_build_leaves_nothing_that_counts(tmp_path: Path, cache: Path) -> None:
    source = write_archive(tmp_path / "cnn.tgz", members(600, words=200))
    environment = {**os.environ, "BNRNN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "bnrnn", "data", "prepare", "cnn", "--from", str(source)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    part = cache.with_name("questions.part")
    while not list(part.glob("*.i32")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if part.exists():  # it was killed before its end
        assert not cache.exists()
        with pytest.raises(DataError, match="not prepared"):
            cnn.load()
    assert cnn.prepare(source).questions == {"train": 540, "valid": 30, "test": 30}
    assert not part.exists()


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    source = archive(tmp_path, GOOD)

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(DataError, match="another process prepares"):
            cnn.prepare(source)
        seen.append(done)

    seen: list[int] = []
    folder = unpacked(tmp_path, GOOD)
    cnn.prepare(folder, progress=meanwhile)
    assert seen


def test_progress_ends_at_the_archives_size(tmp_path: Path) -> None:
    source = write_archive(tmp_path / "cnn.tgz", members(300))
    told: list[tuple[int, int]] = []
    cnn.prepare(source, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {source.stat().st_size}
    assert told[-1][0] > 0.5 * source.stat().st_size


def test_memory_does_not_hold_the_texts(tmp_path: Path) -> None:
    """Between two corpora of one vocabulary the peak grows by what is kept of a question, not by its text."""
    peaks = []
    for count in (200, 800):
        source = write_archive(tmp_path / f"{count}.tgz", members(count, vocabulary=500))
        tracemalloc.start()
        cnn.prepare(source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    text = 4 * 780 * 600  # bytes of the passages' indices alone
    assert peaks[1] - peaks[0] < text / 2 + 4 * (1 << 18)  # a column's buffer


def test_pages_of_the_cache_are_read_as_they_are_needed(tmp_path: Path) -> None:
    cnn.prepare(archive(tmp_path, GOOD))
    data = cnn.load()
    assert isinstance(data.train.passages.values, np.memmap)
    assert data.train.passages.values.dtype == np.int32


HAND = {
    # by reading: how many different words of the question each of the four sentences shares, and how it begins
    "000021e9748578a514493c773809465c661a28d1": (1031, 47, [
        (1, "to save some money on hotels"),
        (1, "outside of peak season"),
        (1, "below , on @entity83"),
        (4, "@entity192 writes @entity1 travel guidebooks"),
    ]),
    "00005db6c024901c6eaeec5e3334c66297cb0cee": (464, 19, [
        (1, "former @entity1 captain @entity0"),
        (5, "@entity0 , who lost the armband"),
        (1, "in a statement , he said"),
        (6, '" i am making this statement today'),
    ]),
    "000076cf6fa641238d1e6fab691f2fd1f16c8cab": (629, 23, [
        (5, "it was the second attempt"),
        (5, "the measure bans abortions"),
        (13, "opinion : it 's the real"),
        (4, "the roars of the crowd"),
    ]),
    "judge excludes e-mails": (1162, 48, [
        (2, "@entity0 , @entity1 ( @entity2 ) -- army maj."),
        (2, "the exchange occurred"),
        (2, "@entity3 , who was scheduled to deploy"),
        (7, "the judge , col. @entity69"),
    ]),
    "would - be immigrants": (503, 17, [
        (14, "( @entity0 ) -- @entity1 sent police"),
        (4, "the @entity1 government estimates"),
        (5, "the government estimates an additional"),
        (4, "on march 6 , @entity1 's interior minister"),
    ]),
}  # fmt: skip


@pytest.mark.real_data
def test_the_five_real_questions(tmp_path: Path) -> None:
    found = json.loads(registry.fetch("qa/cnn_snippet.jtr.json").read_text("utf-8"))["instances"]
    assert len(found) == 5
    files: Files = {}
    for instance in found:
        (question,) = instance["questions"]
        passage = instance["support"]["text"]
        names = "\n".join(sorted(f"{word}:x" for word in set(passage.split()) if word.startswith("@entity")))
        files[f"questions/training/{question['id']}"] = content(
            passage, question["question"], question["answers"][0]["text"], names
        )
    texts = {name: parse(file) for name, file in files.items()}
    assert [len(text.passage) for text in texts.values()] == [1031, 464, 629, 1162, 503]
    assert [len(text.candidates) for text in texts.values()] == [34, 19, 21, 22, 18]
    files |= {"questions/validation/v.question": content(), "questions/test/t.question": content()}
    prepared = cnn.prepare(archive(tmp_path, files))
    assert prepared.left_out == {}
    data = cnn.load()
    symbols = data.words.vocabulary.symbols
    assert len(symbols) == 439
    kept = {data.train.order[k]: data.train[k] for k in range(5)}
    assert sum(len(item.passage) for item in kept.values()) == 3789
    assert sum(int((item.passage == UNKNOWN).sum()) for item in kept.values()) == 768
    assert sum(int((item.passage == NUMBER).sum()) for item in kept.values()) == 47
    for text, (length, sentences, best) in zip(texts.values(), HAND.values(), strict=True):
        item = data.words.item(text)
        assert len(item.passage) == length
        assert len(item.ends) == sentences
        starts = [0, *item.ends.tolist()]
        chosen = [
            next(k for k in range(sentences) if " ".join(text.passage[starts[k] :]).startswith(beginning))
            for _, beginning in best
        ]
        assert [int(item.relevance[k]) for k in chosen] == [shared for shared, _ in best]
        expected = np.concatenate([item.passage[starts[k] : starts[k + 1]] for k in chosen])
        assert np.array_equal(select(item, 4), expected)
