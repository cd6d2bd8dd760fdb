"""Cloze questions over dialogues of the television series Friends (Ma, Jurczyk and Choi 2018, release 1.0).

Names are markers ``@entNN`` that mean the same within a dialogue only. Of the release the development part (1,349
questions) and the test part (1,353) are at hand; the training part is not. So the development part serves for training
and validation: its questions are put in the order of the SHA-256 of dialogue and question, and the first 249 are the
validation part, which leaves 1,100. Questions on one dialogue may stand in several parts, as in the release itself.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from typing import Any

from bnrnn.data.cloze import ENTITY, PLACEHOLDER, Builder, Cloze, Text
from bnrnn.data.registry import FILES, DataError, fetch

FILE = "qa/friends_cloze_dev_tst.tar.xz"
VALID = 249


def load() -> Cloze:
    """The questions: 1,100 / 249 / 1,353. A sentence of a passage is an utterance, its speakers before it.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = fetch(FILE)
    try:
        with tarfile.open(path) as archive:
            development, test = (_read(archive, part) for part in ("dev", "tst"))
    except (tarfile.TarError, EOFError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}); replace it by a good copy") from error
    development.sort(key=_digest)
    builder = Builder()
    for part, dialogues in (("valid", development[:VALID]), ("train", development[VALID:]), ("test", test)):
        for dialogue in dialogues:
            builder.add(part, text(dialogue))
    return builder.finish("Friends cloze (development part for training)", sources={FILE: FILES[FILE].sha256})


def text(dialogue: dict[str, Any]) -> Text:
    """A question of the release as a :class:`~bnrnn.data.cloze.Text`.

    Raises:
        DataError: it has no placeholder or several, or the answer is not named in the dialogue.
    """
    passage: list[str] = []
    ends: list[int] = []
    for utterance in dialogue["utterances"]:
        passage += f"{utterance['speakers']} : {utterance['tokens']}".lower().split()
        ends.append(len(passage))
    question = dialogue["query"].lower().split()
    candidates = sorted({word for word in passage if ENTITY.fullmatch(word)})
    answer = dialogue["answer"]
    if question.count(PLACEHOLDER) != 1 or answer not in candidates:
        raise DataError(f"a question on dialogue {dialogue['scene_id']} is not a cloze question: {dialogue['query']}")
    return Text(passage, ends, question, candidates, answer)


def _read(archive: tarfile.TarFile, part: str) -> list[dict[str, Any]]:
    name = next((name for name in archive.getnames() if name.endswith(f"reading-comprehension-{part}.json")), None)
    stream = None if name is None else archive.extractfile(name)
    if stream is None:
        raise KeyError(f"it has no part {part}")
    return json.load(stream)


def _digest(dialogue: dict[str, Any]) -> str:
    return hashlib.sha256(f"{dialogue['scene_id']}\n{dialogue['query']}".encode()).hexdigest()
