"""Names in a text and the markers that stand for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from bnrnn.data.cloze import ENTITY, PLACEHOLDER

_TOKEN = re.compile(r"@\w+|[^\W_](?:[\w'’-]*[^\W_])?|[^\w\s]|_")
_JOINING = {"of", "de", "van", "von"}
_OPENING = frozenset(
    re.findall(
        r"\w+",
        "a an and as at but by for from he her his how i if in it its my no not now of on or our she so that the"
        " their then there these they this to we what when where which who why with yes you your",
    )
)


def tokens(text: str) -> list[str]:
    """The words and punctuation marks of a running text, as they are written."""
    return _TOKEN.findall(text)


def capitalised(words: Sequence[str]) -> list[str]:
    """The names in a text, guessed from capital letters, each once, in the order of their first appearance.

    A name is a span of capitalised words, ``of`` and the like between them. The first word of a sentence belongs to
    one only if it is no common opening and does not stand in lower case elsewhere; alone it must be capitalised
    within a sentence too.
    """
    lower = {word for word in words if word[:1].islower()}
    inside = {word for before, word in pairwise(words) if _is_name(word) and not _ends(before)}
    names: dict[str, None] = {}
    index = 0
    while index < len(words):
        if not _is_name(words[index]):
            index += 1
            continue
        end = index + 1
        while end < len(words) and (
            _is_name(words[end]) or (words[end] in _JOINING and end + 1 < len(words) and _is_name(words[end + 1]))
        ):
            end += 1
        span = list(words[index:end])
        if index == 0 or _ends(words[index - 1]):
            first = span[0].lower()
            if first in _OPENING or first in lower or (len(span) == 1 and span[0] not in inside):
                span = span[1:]
        if span:
            names.setdefault(" ".join(span))
        index = end
    return list(names)


def _is_name(word: str) -> bool:
    return word[:1].isupper() and word != "I"


def _ends(word: str) -> bool:
    return word in {".", "!", "?", ":", '"', "“", "”", "(", ")", "-"}


class Names:
    """Puts markers in the place of names, and names in the place of markers.

    Args:
        known: the markers that a reader knows, in the order in which they are given out.
        given: names, or ``name=@marker``; a name alone gets the next marker that is free.
        text: lower-case words of the text; its markers are not given out.

    Raises:
        ValueError: a marker that is not known or has two names, or more names than markers.
    """

    def __init__(self, known: Sequence[str], given: Iterable[str], text: Iterable[str]) -> None:
        used = {word for word in text if ENTITY.fullmatch(word)}
        pairs = [(name.strip(), marker.strip().lower()) for name, _, marker in (one.partition("=") for one in given)]
        self.marker: dict[tuple[str, ...], str] = {}
        self.name: dict[str, str] = {}
        for name, marker in pairs:
            if not name:
                raise ValueError("entities must be names or name=@marker, got an empty name")
            if marker and (marker not in known or marker in self.name):
                reason = "has two names" if marker in self.name else "is not known to the reader"
                raise ValueError(
                    f"entities: {marker} {reason}; it knows {known[0]} to {known[-1]}" if known else reason
                )
            if marker:
                self._add(name, marker)
        free = (marker for marker in known if marker not in used and marker not in self.name)
        strange = sorted(used.difference(known))
        for name in [*(name for name, marker in pairs if not marker), *strange]:
            words = _lower(name)
            if words in self.marker:
                continue
            longer = [other for other in self.marker if len(other) > len(words) == 1 and other[-1:] == words]
            if len(longer) == 1:
                self.marker[words] = self.marker[longer[0]]
                continue
            marker = next(free, None)
            if marker is None:
                raise ValueError(f"entities: the reader knows {len(known)} markers, too few for all names; name fewer")
            self._add(name, marker)

    def _add(self, name: str, marker: str) -> None:
        self.marker[_lower(name)] = marker
        self.name[marker] = name

    def hide(self, words: Sequence[str]) -> list[str]:
        """The lower-case words with a marker for each name, the longest name that fits."""
        lower = [word.lower() for word in words]
        longest = max(map(len, self.marker), default=0)
        result: list[str] = []
        index = 0
        while index < len(lower):
            for length in range(min(longest, len(lower) - index), 0, -1):
                marker = self.marker.get(tuple(lower[index : index + length]))
                if marker is not None:
                    result.append(marker)
                    index += length
                    break
            else:
                result.append(lower[index])
                index += 1
        return result

    def show(self, word: str) -> str:
        """A word as people read it."""
        return self.name.get(word, word)


def _lower(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in (name.split() if name.startswith("@") else tokens(name)))


def has_markers(words: Iterable[str]) -> bool:
    """Whether a text is anonymised already."""
    return any(ENTITY.fullmatch(word) for word in words if word != PLACEHOLDER)
