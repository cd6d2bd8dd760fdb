"""The bAbI tasks (Weston et al. 2015, version 1.2, English, 10,000 training questions) as cloze questions.

The questions have no placeholder of their own: it takes the place of the question word (``@placeholder is mary ?`` for
"Where is Mary?"), and stands at the end of a question without one (``is mary in the kitchen ? @placeholder``). All
answers of a task's training part are the candidates of each of its questions.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator

from bnrnn.data.cloze import PLACEHOLDER, Builder, Cloze, Text
from bnrnn.data.registry import FILES, DataError, fetch

FILE = "qa/babi_v1-2_en_en-10k.tar.xz"
TASKS = tuple(range(1, 21))
VALID_SHARE = 10  # of so many training stories one is for validation

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[^\sa-z0-9]")
_ASKING = ("where", "what", "who", "why", "how", "which", "when")


def load(task: int) -> Cloze:
    """The questions of a task. Of its training stories the last tenth is the validation part.

    Raises:
        ValueError: unknown task.
        DataError: the file is missing or damaged, or it lacks the task's training part, as that of task 3.
    """
    if task not in TASKS:
        raise ValueError(f"task must be 1 to 20, got {task}")
    path = fetch(FILE)
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
            train, test = ([*_stories(_read(archive, names, task, part))] for part in ("train", "test"))
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); replace it by a good copy") from error
    first = len(train) - len(train) // VALID_SHARE
    answers = sorted({answer for story in train[:first] for *_, answer in story})
    builder = Builder()
    for part, stories in (("train", train[:first]), ("valid", train[first:]), ("test", test)):
        for story in stories:
            for statements, question, answer in story:
                builder.add(part, text(statements, question, answers, answer))
    return builder.finish(f"bAbI task {task}", answers, {FILE: FILES[FILE].sha256})


def text(statements: list[str], question: str, answers: list[str], answer: str) -> Text:
    """A question as a :class:`~bnrnn.data.cloze.Text`; each statement is a sentence of the passage."""
    passage: list[str] = []
    ends: list[int] = []
    for statement in statements:
        passage += words(statement)
        ends.append(len(passage))
    return Text(passage, ends, cloze(question), answers, answer)


def words(sentence: str) -> list[str]:
    """The lower-case words and punctuation marks of a sentence."""
    return _WORD.findall(sentence.lower())


def cloze(question: str) -> list[str]:
    """A question's words with a placeholder, see the module."""
    found = words(question)
    place = next((index for index, word in enumerate(found) if word in _ASKING), len(found))
    return [*found[:place], PLACEHOLDER, *found[place + 1 :]]


def _read(archive: tarfile.TarFile, names: list[str], task: int, part: str) -> str:
    wanted = re.compile(rf"(?:.*/)?en-10k/qa{task}_[a-z-]+_{part}\.txt")
    name = next(filter(wanted.fullmatch, names), None)
    stream = None if name is None else archive.extractfile(name)
    if stream is None:
        raise DataError(f"{FILE} has no {part} part of task {task}")
    return stream.read().decode("ascii")


def _stories(content: str) -> Iterator[list[tuple[list[str], str, str]]]:
    """The questions of each story: the statements before it, the question, the answer."""
    statements: list[str] = []
    story: list[tuple[list[str], str, str]] = []
    for line in content.splitlines():
        number, _, rest = line.partition(" ")
        if number == "1" and story:
            yield story
        if number == "1":
            statements, story = [], []
        if "\t" in rest:
            question, answer, *_ = rest.split("\t")
            story.append(([*statements], question, answer.strip().lower()))
        else:
            statements.append(rest)
    if story:
        yield story
