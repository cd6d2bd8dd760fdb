"""What is wrong with single utterances, collected until all is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bnrnn.data.registry import DataError


@dataclass(frozen=True)
class Problem:
    """One utterance's.

    Args:
        name: the utterance.
        place: the file that it stands in.
        what: what is wrong.
        kind: the same in two or three words, to count by.
    """

    name: str
    place: str
    what: str
    kind: str

    def __str__(self) -> str:
        return f"utterance {self.name} in {self.place}: {self.what}"


@dataclass
class Findings:
    """The problems of a data set, and how many utterances were left out of it for what reason."""

    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, place: str, what: str, kind: str) -> None:
        self.problems.append(Problem(name, place, what, kind))

    def kinds(self) -> Counter[str]:
        """How many problems there are of each kind."""
        return Counter(problem.kind for problem in self.problems)

    def settle(self, skip_bad: bool) -> None:
        """Counts the problems as left out where ``skip_bad``.

        Raises:
            DataError: there are problems and they are not to be skipped; the message has the first and the number.
        """
        if not self.problems:
            return
        if not skip_bad:
            more = len(self.problems) - 1
            raise DataError(
                f"{self.problems[0]}; {f'there are {more:,} more' if more else 'it is the only one'};"
                " bnrnn data check shows all, --skip-bad leaves them out"
            )
        self.left_out.update(self.kinds())
        self.problems.clear()
