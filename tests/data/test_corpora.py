"""Splits, counts and symbols of the text corpora."""

from __future__ import annotations

import hashlib
import lzma
import zipfile
from pathlib import Path

import pytest
import torch

from bnrnn.data import ptb, registry, text, text8
from bnrnn.data.corpus import Corpus, Vocabulary
from bnrnn.data.registry import DataError, DataFile

LINES = {
    "train": " a cat sat \n a dog <unk> \n",
    "valid": " dog sat \n",
    "test": " a bird \n",
}


def declare(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    """Puts a made-up file where the data set's own one would be."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    file = DataFile(name, len(content), hashlib.sha256(content).hexdigest(), "none")
    monkeypatch.setitem(registry.FILES, name, file)
    monkeypatch.setenv("BNRNN_DATA", str(folder))
    monkeypatch.setenv("BNRNN_CACHE", str(folder / "cache"))


@pytest.fixture
def tiny_ptb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, lines in LINES.items():
        declare(tmp_path, monkeypatch, f"ptb/ptb.{part}.txt", lines.encode())


def spell(corpus: Corpus, part: str) -> str:
    symbols = corpus.vocabulary.decode(getattr(corpus, part))
    return ("" if corpus.level == "character" else " ").join(symbols)


@pytest.mark.usefixtures("tiny_ptb")
def test_ptb_words() -> None:
    corpus = ptb.words()
    assert spell(corpus, "train") == "a cat sat <eos> a dog <unk> <eos>"
    assert spell(corpus, "valid") == "dog sat <eos>"
    assert spell(corpus, "test") == "a <unk> <eos>"
    assert corpus.vocabulary.symbols == ("<eos>", "a", "<unk>", "cat", "dog", "sat")


@pytest.mark.usefixtures("tiny_ptb")
@pytest.mark.parametrize(
    ("convention", "train", "name"),
    [
        ("paper", "a cat sat \na dog <unk> \n", "PTB characters"),
        ("stripped", "a cat sat\na dog <unk>\n", "PTB characters (stripped)"),
        ("no-newline", "a cat sat a dog <unk> ", "PTB characters (no-newline)"),
    ],
)
def test_ptb_characters(
    convention: ptb.CharacterConvention,
    train: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declare(tmp_path, monkeypatch, "ptb/ptb.test.txt", b" a cat \n")
    corpus = ptb.characters(convention)
    assert spell(corpus, "train") == train
    assert corpus.name == name
    assert corpus.vocabulary.symbols == tuple(sorted(set(train)))
    assert corpus.train.dtype == torch.uint8


def test_ptb_refuses_an_unknown_convention() -> None:
    with pytest.raises(ValueError, match="convention must be one of paper, stripped, no-newline, got 'x'"):
        ptb.characters("x")  # type: ignore[arg-type]


@pytest.mark.real_data
def test_ptb_counts_match_to_the_character() -> None:
    def counts(corpus: Corpus) -> tuple[int, ...]:
        return len(corpus.train), len(corpus.valid), len(corpus.test), len(corpus.vocabulary)

    assert counts(ptb.words()) == (929_589, 73_760, 82_430, 10_000)
    assert counts(ptb.characters()) == (5_059_550, 396_412, 446_184, 50)
    assert counts(ptb.characters("stripped")) == (5_017_482, 393_042, 442_423, 50)
    assert counts(ptb.characters("no-newline")) == (5_017_482, 393_042, 442_423, 49)
    assert spell(ptb.characters(), "test").startswith("no it was n't black monday \nbut while the new york ")
    assert spell(ptb.words(), "test").startswith("no it was n't black monday <eos> but while the new york ")


@pytest.fixture
def tiny_text8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    content = (" anarchism originated as a term of abuse" * 2)[:60]
    monkeypatch.setattr(text8, "SLICE_LENGTH", len(content))
    monkeypatch.setattr(text8, "LENGTH", 80)
    declare(tmp_path, monkeypatch, "text8/text8.first6877825.xz", lzma.compress(content.encode()))
    return content


def test_text8_slices(tiny_text8: str) -> None:
    corpus = text8.load(slice=50)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (46, 2, 2)
    assert spell(corpus, "train") + spell(corpus, "valid") + spell(corpus, "test") == tiny_text8[:50]
    read = bytes(" abcdefghijklmnopqrstuvwxyz".index(symbol) for symbol in tiny_text8[:50])
    assert [*corpus.sources.values()] == [hashlib.sha256(read).hexdigest()]
    assert corpus.name == "text8 slice (first 50 characters)"
    assert text8.load(slice=60).train.tolist()[:46] == corpus.train.tolist()


@pytest.mark.usefixtures("tiny_text8")
def test_text8_whole_comes_from_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "abcdefghijklmnopqrst" * 4
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
        stream.writestr("text8", content)
    declare(tmp_path, monkeypatch, "text8/text8.zip", archive.read_bytes())
    corpus = text8.load()
    assert corpus.name == "text8"
    assert spell(corpus, "train") == content[:72]
    assert (len(corpus.valid), len(corpus.test)) == (4, 4)
    assert "text8 slice" in text8.load(slice=79).name


@pytest.mark.usefixtures("tiny_text8")
@pytest.mark.parametrize("slice", [0, 19, 81, -5])
def test_text8_refuses_a_slice_out_of_range(slice: int) -> None:
    with pytest.raises(ValueError, match=f"slice must be 20 to 80 characters, got {slice}"):
        text8.load(slice=slice)


@pytest.mark.usefixtures("tiny_text8")
@pytest.mark.parametrize("slice", [True, 30.0, "30"])
def test_text8_refuses_a_slice_that_is_no_integer(slice: object) -> None:
    with pytest.raises(TypeError, match="slice must be an integer"):
        text8.load(slice=slice)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lzma.compress(b"a" * 60)[:-20], "damaged"),
        (lzma.compress(b"a" * 59), "59 characters instead of 60"),
        (lzma.compress(b"a" * 59 + b"A"), "other characters than a to z"),
    ],
)
@pytest.mark.usefixtures("tiny_text8")
def test_a_damaged_text8_leaves_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    declare(tmp_path, monkeypatch, "text8/text8.first6877825.xz", content)
    with pytest.raises(DataError, match=message):
        text8.load(slice=30)
    assert not list((tmp_path / "cache/text8").iterdir())


@pytest.mark.real_data
def test_the_slice_of_text8_matches_to_the_character() -> None:
    corpus = text8.load(slice=6_877_825)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (6_190_043, 343_891, 343_891)
    letters = torch.tensor([ord(symbol) for symbol in corpus.vocabulary.symbols], dtype=torch.uint8)
    digest = hashlib.sha256()
    for part in (corpus.train, corpus.valid, corpus.test):
        digest.update(letters[part.long()].numpy().tobytes())
    assert digest.hexdigest() == "8c5551457ad85e6f248e016443493f940756c7582473e6bbfcafcbe27fc98836"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_text_of_any_script(tmp_path: Path) -> None:
    files = [write(tmp_path, "a.txt", "\ufeffzażółć\r\n"), write(tmp_path, "b.txt", "gęślą jaźń ふ")]
    corpus = text.load(files, valid=0.25, test=0.1)
    assert corpus.name == "a.txt, b.txt"
    whole = "zażółć\ngęślą jaźń ふ"
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (14, 4, 1)
    assert spell(corpus, "train") == whole[:14]
    assert corpus.vocabulary.symbols == (*sorted(set(whole[:14])), "\ufffd")
    assert spell(corpus, "valid") == "a\ufffd\ufffd "
    assert spell(corpus, "test") == "\ufffd"
    assert corpus.unknown == {"train": 0, "valid": 2, "test": 1}


def test_rare_characters_count_as_unknown(tmp_path: Path) -> None:
    corpus = text.load([write(tmp_path, "a", "aabbcaabba" * 2)], valid=0.1, test=0.1, min_count=3)
    assert corpus.vocabulary.symbols == ("a", "b", "\ufffd")
    assert spell(corpus, "train") == "aabb\ufffdaabba" + "aabb\ufffdaab"[:6]
    assert corpus.unknown["train"] == 2


def test_more_than_256_symbols(tmp_path: Path) -> None:
    script = "".join(chr(0x4E00 + i) for i in range(300)) * 2
    corpus = text.load([write(tmp_path, "a", script)])
    assert corpus.train.dtype == torch.int32
    assert spell(corpus, "train") == script[:540]
    assert spell(corpus, "test") == script[-30:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"abc\xff\xfe" * 20, "not UTF-8 .byte 0xff at position 3"),
        (b"abc", "3 characters, too few"),
    ],
)
def test_a_bad_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        text.load([write(tmp_path, "a.txt", content)])


def test_a_bad_call_for_a_text_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path, "a.txt", "abc" * 100)
    with pytest.raises(DataError, match=r"cannot read .*absent\.txt: No such file"):
        text.load([tmp_path / "absent.txt"])
    with pytest.raises(DataError, match="cannot read"):
        text.load([tmp_path])
    with pytest.raises(ValueError, match="at least one file"):
        text.load([])
    with pytest.raises(ValueError, match="shares"):
        text.load([good], valid=0.5, test=0.5)
    with pytest.raises(ValueError, match="min_count"):
        text.load([good], min_count=0)
    with pytest.raises(DataError, match="lower min_count"):
        text.load([good], min_count=1000)


def test_vocabulary() -> None:
    vocabulary = Vocabulary(("b", "a"))
    assert vocabulary.encode("abba").tolist() == [1, 0, 0, 1]
    assert vocabulary.decode(torch.tensor([1, 0])) == ["a", "b"]
    with pytest.raises(ValueError, match="2 symbols are not in the vocabulary of 2: 'c', 'd'"):
        vocabulary.encode("abcdc")
    assert Vocabulary(("b", "a"), unknown="a").encode("abc").tolist() == [1, 0, 1]
    assert vocabulary.fingerprint == Vocabulary(("b", "a")).fingerprint
    assert vocabulary.fingerprint != Vocabulary(("a", "b")).fingerprint
    with pytest.raises(ValueError, match="distinct"):
        Vocabulary(("a", "a"))
    with pytest.raises(ValueError, match="unknown must be one of the symbols"):
        Vocabulary(("a",), unknown="b")


def test_the_sources_of_a_text_are_its_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [write(tmp_path, "a.txt", "ab\r\n" * 20), write(tmp_path / "other", "a.txt", "ba" * 20)]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert text.load(files).sources == {"1. a.txt": digests[0], "2. a.txt": digests[1]}
