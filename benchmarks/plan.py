"""What a full run measures, the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.subjects import FORMS, STREAMS, SUBJECTS, SWEEPS, TASKS, Shape

THREADS = (2, 1)


@dataclass(frozen=True)
class Measurement:
    """One subject beside its peer, in processes of their own: one row of the results."""

    suite: str
    shape: Shape
    subject: str
    mode: str  # train, eval or stream
    threads: int
    huge_pages: bool

    @property
    def peer(self) -> str:
        return SUBJECTS[self.subject].peer

    @property
    def rounds(self) -> int:
        """The fewest that give a median and quartiles; even, since the order alternates."""
        return 4 if SUBJECTS[self.subject].eager else 6

    @property
    def share(self) -> float:
        """Of the budget: the bars are about the LSTM at the six tasks."""
        if self.suite in FORMS:
            return 0.25
        return 1.0 if self.suite == "tasks" and self.subject == "LSTM cpu" else 0.5

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from every other measurement, as the results spell it."""
        shape = self.shape
        numbers = (shape.steps, shape.batch, shape.inputs, shape.units, self.threads, int(self.huge_pages))
        return (self.suite, self.subject, self.mode, *map(str, numbers))

    def expected(self, budget: float) -> float:
        """A rough guess of the seconds it takes, for the display of the time left."""
        start = 2.0  # Python and torch
        if self.suite == "memory":
            return 2 * start + 2
        if self.mode == "stream":
            return start + 1 + budget * self.share
        shape, subject = self.shape, SUBJECTS[self.subject]
        products = 2 * shape.steps * shape.batch * subject.gates * shape.units * (shape.inputs + shape.units)
        pair = (3 if self.mode == "train" else 1) * (2 * products / (1.5e11 * self.threads) + 3e-5 * shape.steps)
        if subject.eager:
            pair = 3 * pair + 1e-3 * shape.steps
        timing = min(200 * pair, max(budget * self.share, self.rounds * pair))
        return start + subject.compilation + 2 * pair + timing


def plan(threads: Sequence[int] = THREADS, huge_pages: bool = True) -> Iterator[Measurement]:
    """Every measurement once: the LSTM's six tasks in all settings first, then the other layers, then the sweeps.

    Left out as of little worth for their time: memory with fewer threads; GRU and RNN, the eager references and the
    sweeps with huge pages and fewer threads; the compiled cell and the stream with huge pages; the sweeps of GRU and
    RNN but for training in the first setting; plain layers in all settings but the one with the fewest threads. One row
    has no batch statistics, so it is not trained.
    """
    first, fewer = (threads[0], False), [(n, False) for n in threads[1:]]
    huge = [(threads[0], True)] if huge_pages else []
    rest = [(n, True) for n in threads[1:]] if huge_pages else []

    def tasks(subject: str, settings: Sequence[tuple[int, bool]], modes: Sequence[str]) -> Iterator[Measurement]:
        for setting in settings:
            for mode in modes:
                suite, how = ("memory", "train") if mode == "memory" else ("tasks", mode)
                for shape in TASKS:
                    yield Measurement(suite, shape, subject, how, *setting)

    def sweeps(subject: str, settings: Sequence[tuple[int, bool]], modes: Sequence[str]) -> Iterator[Measurement]:
        for setting in settings:
            for suite, shapes in SWEEPS.items():
                for mode in modes:
                    for shape in shapes:
                        if mode == "eval" or shape.batch > 1:
                            yield Measurement(suite, shape, subject, mode, *setting)

    both = ("train", "eval")
    yield from tasks("LSTM cpu", [first, *huge], (*both, "memory"))
    yield from tasks("LSTM cpu", fewer, both)
    for subject in ("GRU cpu", "RNN cpu"):
        yield from tasks(subject, [first], (*both, "memory"))
    for subject in ("LSTM reference", "LSTM compiled cell"):
        yield from tasks(subject, [first], ("train",))
    for suite, shapes in FORMS.items():
        for subject in ("LSTM plain",) if suite == "projected" else ("LSTM plain", "GRU plain", "RNN plain"):
            for mode in both:
                for shape in shapes:
                    yield Measurement(suite, shape, subject, mode, threads[-1], False)
    yield from sweeps("LSTM cpu", [first], both)
    for setting in (first, *fewer):
        for shape in STREAMS:
            yield Measurement("stream", shape, "LSTM stream", "stream", *setting)
    for subject in ("GRU cpu", "RNN cpu"):
        yield from tasks(subject, fewer, both)
    yield from tasks("LSTM cpu", rest, both)
    yield from sweeps("LSTM cpu", fewer, both)
    for subject in ("GRU cpu", "RNN cpu"):
        yield from tasks(subject, huge, both)
    yield from sweeps("LSTM cpu", huge, ("train",))
    for subject in ("GRU cpu", "RNN cpu"):
        yield from sweeps(subject, [first], ("train",))
    yield from tasks("LSTM reference", [*fewer, *huge], ("train",))
    yield from tasks("LSTM compiled cell", fewer, ("train",))
