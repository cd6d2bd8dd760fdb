"""Transition models and targets: by hand for small models, and against phones that Kaldi itself wrote."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from bnrnn.data.kaldi.alignments import read_targets
from bnrnn.data.kaldi.archive import items, write_integers
from bnrnn.data.kaldi.findings import Findings
from bnrnn.data.kaldi.transitions import read_transition_model
from bnrnn.data.registry import DataError

ALI = Path(os.environ.get("BNRNN_DATA") or "no-data") / "kaldi/digits/ali"

# phones 1 and 2: two states, each with a loop and a way on; phone 3: one state
TEXT = """<TransitionModel>
<Topology>
<TopologyEntry>
<ForPhones> 1 2 </ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 <PdfClass> 1 <Transition> 1 0.5 <Transition> 2 0.5 </State>
<State> 2 </State>
</TopologyEntry>
<TopologyEntry>
<ForPhones> 3 </ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 </State>
</TopologyEntry>
</Topology>
<Triples> 5
1 0 0
1 1 1
2 0 0
2 1 3
3 0 2
</Triples>
<LogProbs> [ 0 -0.7 ] </LogProbs>
</TransitionModel>
"""


def integer(value: int) -> bytes:
    return struct.pack("<bi", 4, value)


def vector(values: list[int]) -> bytes:
    return integer(len(values)) + struct.pack(f"<{len(values)}i", *values)


def binary_model(tuples: bool) -> bytes:
    """TEXT in binary; as tuples, staying in a state has a density of its own: four more than that of entering."""

    def state(kind: int, leads: list[int]) -> bytes:
        classes = integer(kind) * (2 if tuples else 1)
        return classes + integer(len(leads)) + b"".join(integer(to) + struct.pack("<bf", 4, 0.5) for to in leads)

    two = integer(3) + state(0, [0, 1]) + state(1, [1, 2]) + state(-1, [])
    one = integer(2) + state(0, [0, 1]) + state(-1, [])
    head = vector([1, 2, 3]) + vector([-1, 0, 0, 1]) + (integer(-1) if tuples else b"") + integer(2)
    kind = b"Tuples" if tuples else b"Triples"
    rows = [(1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, 3), (3, 0, 2)]
    table = b"".join(b"".join(map(integer, (*row, row[2] + 4) if tuples else row)) for row in rows)
    return (
        b"\0B<TransitionModel> <Topology> " + head + two + one + b"</Topology> <" + kind + b"> " + integer(5) + table
        + b"</" + kind + b"> <LogProbs> "
    )  # fmt: skip


PHONES = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
PDFS = [0, 0, 1, 1, 0, 0, 3, 3, 2, 2]


@pytest.mark.parametrize("kind", ["text", "binary", "tuples"])
def test_transition_ids_are_counted_through_states_and_their_transitions(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "final.mdl"
    path.write_bytes(TEXT.encode() if kind == "text" else binary_model(kind == "tuples"))
    model = read_transition_model(path)
    assert len(model) == 10
    assert model.phones[1:].tolist() == PHONES
    loops = [True, False] * 5
    assert model.loop[1:].tolist() == loops
    assert model.final[1:].tolist() == [False, False, False, True] * 2 + [False, True]
    pdfs = [pdf + 4 if loop and kind == "tuples" else pdf for pdf, loop in zip(PDFS, loops, strict=True)]
    assert model.pdfs[1:].tolist() == pdfs
    assert model.pdf_count == max(pdfs) + 1
    assert model.phone_count == 4


@pytest.mark.parametrize(
    ("alignment", "fault"),
    [
        ([2, 1, 1, 4, 3, 10, 9, 6, 8], None),  # loops behind the way out, as Kaldi reorders them
        ([1, 1, 2, 3, 4, 9, 10, 6, 8, 7], None),  # and before it
        ([2, 4, 2, 4], None),  # one phone twice
        ([], None),
        ([1, 1, 2, 3], None),  # cut off within a phone
        ([2, 4, 11], "has transition 11, and the model has 1 to 10"),
        ([2, 0], "has transition 0"),
        ([2, 10], "transition 10 does not follow transition 2"),
        ([2, 8], "transition 8 does not follow transition 2"),
        ([4, 8], "transition 8 does not follow transition 4"),
        ([1, 1, 4, 3], "a state that it never leaves"),
    ],
)
def test_alignments_of_another_model_are_told(tmp_path: Path, alignment: list[int], fault: str | None) -> None:
    (tmp_path / "final.mdl").write_text(TEXT)
    found = read_transition_model(tmp_path / "final.mdl").fault(np.array(alignment, np.int32))
    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert fault in found


@pytest.mark.parametrize(
    "content", [b"", b"\0B<Nnet> ", b"\0B<TransitionModel> <Topology> \4\1", b"<TransitionModel> x"]
)
def test_files_that_are_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "final.mdl").write_bytes(content)
    with pytest.raises(DataError, match=r"final\.mdl is not a whole Kaldi model"):
        read_transition_model(tmp_path / "final.mdl")
    with pytest.raises(DataError, match="belongs to the alignments"):
        read_transition_model(tmp_path / "other.mdl")


def test_a_folder_of_alignments_gives_densities_or_phones(tmp_path: Path) -> None:
    (tmp_path / "final.mdl").write_text(TEXT)
    write_integers(tmp_path / "ali.1.gz", {"a": np.array([2, 1, 4]), "bad": np.array([2, 8])})
    write_integers(tmp_path / "ali.2.gz", {"b": np.array([10, 9, 9]), "a": np.array([10])}, text=True)
    findings = Findings()
    targets = read_targets(tmp_path, findings)
    assert {name: x.tolist() for name, x in targets.values.items()} == {"a": [0, 0, 1], "b": [2, 2, 2]}
    assert targets.count == 4
    assert set(targets.sources) == {"ali.1.gz", "ali.2.gz", "final.mdl"}
    assert [problem.name for problem in findings.problems] == ["bad", "a"]
    assert "is the model another one's?" in str(findings.problems[0])
    assert "twice" in str(findings.problems[1])
    phones = read_targets(tmp_path, Findings(), "phone")
    assert {name: x.tolist() for name, x in phones.values.items()} == {"a": [1, 1, 1], "b": [3, 3, 3]}
    assert phones.count == 4
    with pytest.raises(DataError, match="1 more; bnrnn data check"):
        findings.settle(skip_bad=False)
    findings.settle(skip_bad=True)
    assert findings.left_out == {"alignments of another model": 1, "duplicate alignments": 1}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("name", ["pdf.ark", "pdf.ark.gz"])
def test_archives_of_integers(tmp_path: Path, name: str, text: bool) -> None:
    write_integers(tmp_path / name, {"a": np.array([3, 0]), "b": np.array([5])}, text=text)
    targets = read_targets(tmp_path / name, Findings())
    assert {key: x.tolist() for key, x in targets.values.items()} == {"a": [3, 0], "b": [5]}
    assert targets.count == 6
    assert read_targets(tmp_path / name, Findings(), count=3546).count == 3546


@pytest.mark.parametrize("packed", [False, True])
def test_one_symbol_a_frame(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "phones.txt"
    content = b"a z z iy\nb iy sil\nb z\n"
    path.write_bytes(gzip.compress(content) if packed else content)
    findings = Findings()
    targets = read_targets(path, findings)
    assert targets.symbols == ("iy", "sil", "z")
    assert {key: x.tolist() for key, x in targets.values.items()} == {"a": [2, 2, 0], "b": [0, 1]}
    assert len(findings.problems) == 1
    other = Findings()
    known = read_targets(path, other, symbols=("iy", "z"))
    assert list(known.values) == ["a"]
    assert "target 'sil' is none of the 2" in str(other.problems[1])


def test_truncated_alignments_are_a_problem_of_what_follows(tmp_path: Path) -> None:
    write_integers(tmp_path / "x.ark", {"a": np.arange(5), "b": np.arange(9)})
    (tmp_path / "x.ark").write_bytes((tmp_path / "x.ark").read_bytes()[:-3])
    findings = Findings()
    assert list(read_targets(tmp_path / "x.ark", findings).values) == ["a"]
    assert "in b: it ends too early" in str(findings.problems[0])
    with pytest.raises(DataError, match="are missing"):
        read_targets(tmp_path / "none", findings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no alignments"):
        read_targets(tmp_path / "empty", findings)


@pytest.mark.real_data
def test_phones_of_the_digits_are_those_that_kaldi_wrote() -> None:
    findings = Findings()
    targets = read_targets(ALI, findings, "phone")
    table = {int(index): symbol for symbol, index in map(str.split, (ALI / "phones.txt").read_text().splitlines())}
    wanted = {line.split()[0]: line.split()[1:] for line in (ALI / "train_frame_phones.txt").read_text().splitlines()}
    assert not findings.problems
    assert set(targets.values) == set(wanted)
    assert sum(map(len, targets.values.values())) == 34_902
    for name, values in targets.values.items():
        assert [table[value].partition("_")[0] for value in values] == wanted[name]


@pytest.mark.real_data
def test_densities_of_the_digits_belong_to_one_phone_at_a_time() -> None:
    targets = read_targets(ALI, Findings())
    assert targets.count == 70
    model = read_transition_model(ALI / "final.mdl")
    assert len(model) == 660
    ids = dict(items(ALI / "ali.1.gz", "integers"))
    assert sum(len(np.flatnonzero(np.diff(x))) > 0 for x in ids.values()) == 1000
    for name, values in targets.values.items():
        np.testing.assert_array_equal(values, model.pdfs[ids[name]])
        assert model.fault(ids[name]) is None
        broken = ids[name].copy()
        broken[len(broken) // 2] = 1 + (broken[len(broken) // 2] + 300) % 660
        assert model.fault(broken) is not None
