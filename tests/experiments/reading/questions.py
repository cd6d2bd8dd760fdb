"""Made-up cloze questions that a reader can learn: the answer is the name beside the word the question asks for."""

from __future__ import annotations

import random

from bnrnn.data.cloze import PLACEHOLDER, Builder, Cloze, Text, sentence_ends

MARKERS = [f"@entity{number}" for number in range(8)]
VERBS = ["runs", "sings", "sleeps", "reads"]


def text(number: int) -> Text:
    """A question: each of some names does one thing, and who does one of them is asked."""
    source = random.Random(number)
    names, verbs = source.sample(MARKERS, 3), source.sample(VERBS, 3)
    passage: list[str] = []
    for name, verb in zip(names, verbs, strict=True):
        passage += [name, verb, *["well"] * source.randint(0, 3), "."]
    asked = source.randrange(3)
    return Text(passage, sentence_ends(passage), [PLACEHOLDER, verbs[asked]], sorted(names), names[asked])


def data(train: int = 41, valid: int = 13, test: int = 9) -> Cloze:
    builder = Builder()
    number = 0
    for part, count in (("train", train), ("valid", valid), ("test", test)):
        for _ in range(count):
            builder.add(part, text(number))
            number += 1
    return builder.finish("made up", sources={"made up": "0" * 64})
