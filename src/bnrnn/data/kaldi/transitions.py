"""The transition model of a Kaldi acoustic model: what the numbers in an alignment stand for."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnrnn.data.registry import DataError


@dataclass(frozen=True)
class TransitionModel:
    """Of each transition id, from 1: where it comes from and leads to. Index 0 stands for none.

    Args:
        phones: int32 ``(ids + 1,)``: the phone.
        pdfs: the probability density, which is what a network predicts.
        states: the transition state: pair of phone and density at a place of the phone's model.
        places: the place it leaves, a state of the phone's model.
        leads: the place it leads to.
        final: whether that is the model's end.
        loop: whether it stays.
    """

    phones: np.ndarray
    pdfs: np.ndarray
    states: np.ndarray
    places: np.ndarray
    leads: np.ndarray
    final: np.ndarray
    loop: np.ndarray

    def __len__(self) -> int:
        """The number of transition ids."""
        return len(self.phones) - 1

    @property
    def pdf_count(self) -> int:
        return int(self.pdfs[1:].max()) + 1

    @property
    def phone_count(self) -> int:
        """One more than the largest phone: 0 is no phone."""
        return int(self.phones.max()) + 1

    def fault(self, alignment: np.ndarray) -> str | None:
        """Why an alignment cannot be this model's, None where it can.

        Frames in one transition state are left by exactly one transition that is not a loop, before or after the
        loops, and the next frames are in a state where that one leads.
        """
        if len(alignment) == 0:
            return None
        if alignment.min() < 1 or alignment.max() > len(self):
            frame = int(np.argmax((alignment < 1) | (alignment > len(self))))
            return f"at frame {frame} it has transition {alignment[frame]}, and the model has 1 to {len(self):,}"
        leaving = np.flatnonzero(~self.loop[alignment])
        states = self.states[alignment]
        runs = np.concatenate([[0], np.flatnonzero(np.diff(states)) + 1])
        without = np.add.reduceat((~self.loop[alignment]).astype(np.int64), runs) == 0
        if without[:-1].any():  # the last state may be cut off
            frame = int(runs[np.argmax(without)])
            return f"from frame {frame} on it stays in a state that it never leaves"
        before, after = alignment[leaving[:-1]], alignment[leaving[1:]]
        stays = self.phones[before] == self.phones[after]
        fits = np.where(self.final[before], self.places[after] == 0, stays & (self.leads[before] == self.places[after]))
        if not fits.all():
            wrong = int(np.argmin(fits))
            frame = int(leaving[wrong + 1])
            return f"at frame {frame} transition {after[wrong]} does not follow transition {before[wrong]}"
        return None


def read_transition_model(path: Path) -> TransitionModel:
    """The transition model at the start of ``final.mdl``, binary or text, of a triple or tuple kind.

    Raises:
        DataError: the file is missing, truncated or no Kaldi model.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); it belongs to the alignments") from error
    reader = _Binary(content) if content[:2] == b"\0B" else _Text(content)
    try:
        return _read(reader)
    except (struct.error, IndexError, ValueError) as error:
        what = str(error) if isinstance(error, DataError) else "it ends too early or is damaged"
        raise DataError(f"{path} is not a whole Kaldi model: {what}") from error


# of a phone's model: the classes of each state's density (entering or staying), and where its transitions lead
_Topology = list[tuple[int, int, list[int]]]


def _read(reader: _Binary | _Text) -> TransitionModel:
    reader.expect("<TransitionModel>")
    reader.expect("<Topology>")
    topology = reader.topology()
    kind = reader.token()
    if kind not in ("<Triples>", "<Tuples>"):
        raise DataError(f"{kind!r} stands where <Triples> or <Tuples> should")
    rows: list[tuple[int, ...]] = [(0, 0, 0, 0, 0, 0, 0)]
    for state in range(1, reader.integer() + 1):
        phone, place, forward = reader.integer(), reader.integer(), reader.integer()
        loop = reader.integer() if kind == "<Tuples>" else forward
        model = topology[phone]
        for lead in model[place][2]:
            stays = lead == place
            ends = not model[lead][2]
            rows.append((phone, loop if stays else forward, state, place, lead, ends, stays))
    reader.expect(kind.replace("<", "</"))
    columns = np.array(rows, dtype=np.int32).T
    return TransitionModel(*columns[:5], *(column.astype(bool) for column in columns[5:]))


class _Binary:
    """Kaldi's binary tokens and numbers."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 2

    def token(self) -> str:
        end = self.content.index(b" ", self.at)
        found = self.content[self.at : end]
        self.at = end + 1
        return found.decode(errors="replace")

    def expect(self, wanted: str) -> None:
        found = self.token()
        if found != wanted:
            raise DataError(f"{found[:40]!r} stands where {wanted} should")

    def integer(self) -> int:
        return self._number("i")

    def _number(self, kind: str) -> int:
        size, value = struct.unpack_from(f"<b{kind}", self.content, self.at)
        if size != 4:
            raise DataError("a number has another size than it should")
        self.at += 5
        return value

    def _vector(self) -> np.ndarray:
        count = self._number("i")
        found = np.frombuffer(self.content, "<i4", count, self.at)
        self.at += 4 * count
        return found

    def topology(self) -> dict[int, _Topology]:
        phones, index = self._vector(), self._vector()
        count = self.integer()
        pairs = count == -1  # densities for entering and for staying
        if pairs:
            count = self.integer()
        entries: list[_Topology] = []
        for _ in range(count):
            entry: _Topology = []
            for _ in range(self.integer()):
                forward = self.integer()
                loop = self.integer() if pairs else forward
                leads = []
                for _ in range(self.integer()):
                    leads.append(self.integer())
                    self._number("f")
                entry.append((forward, loop, leads))
            entries.append(entry)
        self.expect("</Topology>")
        return {int(phone): entries[index[phone]] for phone in phones}


class _Text:
    """The same as words."""

    def __init__(self, content: bytes) -> None:
        self.words = content.decode(errors="replace").split()
        self.at = 0

    def token(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    expect = _Binary.expect

    def integer(self) -> int:
        return int(self.token())

    def topology(self) -> dict[int, _Topology]:
        found: dict[int, _Topology] = {}
        while (token := self.token()) != "</Topology>":
            if token != "<TopologyEntry>":
                raise DataError(f"{token[:40]!r} stands where <TopologyEntry> should")
            self.expect("<ForPhones>")
            phones = []
            while (token := self.token()) != "</ForPhones>":
                phones.append(int(token))
            entry: _Topology = []
            while (token := self.token()) != "</TopologyEntry>":
                if token != "<State>":
                    raise DataError(f"{token[:40]!r} stands where <State> should")
                self.integer()
                classes, leads = {}, []
                while (token := self.token()) != "</State>":
                    if token == "<Transition>":
                        leads.append(self.integer())
                        self.token()
                    elif token in ("<PdfClass>", "<ForwardPdfClass>", "<SelfLoopPdfClass>"):
                        classes[token] = self.integer()
                    else:
                        raise DataError(f"{token[:40]!r} stands in a state of the topology")
                forward = classes.get("<PdfClass>", classes.get("<ForwardPdfClass>", -1))
                entry.append((forward, classes.get("<SelfLoopPdfClass>", forward), leads))
            found.update(dict.fromkeys(phones, entry))
        return found
