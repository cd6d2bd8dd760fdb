"""A reader's answer for people: attention as colour behind the words, in a terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.text import Text

_COLOUR = (214, 69, 65)  # of the word that is attended to most
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.7 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
.passage span {{ border-radius: 3px; padding: 0 1px; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
td {{ padding: 2px 12px 2px 0; }}
.bar {{ background: rgb({colour}); height: 0.7em; display: inline-block; }}
.note {{ color: #666; font-size: 0.85em; }}
</style>
<h1>{question}</h1>
<p><strong>{answer}</strong></p>
<table>
{candidates}
</table>
<p class="passage">
{passage}
</p>
<p class="note">The stronger the colour behind a word, the greater its weight in the reader's attention; the number is
shown when the pointer rests on it. Probabilities are among all words that the reader knows{rest}.</p>
</html>
"""


def strengths(attention: Sequence[float]) -> list[float]:
    """The weights as parts of the greatest one."""
    greatest = max(attention, default=0.0)
    return [weight / greatest if greatest else 0.0 for weight in attention]


def coloured(passage: Sequence[str], attention: Sequence[float]) -> Text:
    """The words with their weights as background, on a terminal."""
    text = Text()
    for word, strength in zip(passage, strengths(attention), strict=True):
        shade = [round(255 + strength * (channel - 255)) for channel in _COLOUR]
        style = f"black on rgb({shade[0]},{shade[1]},{shade[2]})" if strength > 0.02 else ""
        text.append(word, style=style)
        text.append(" ")
    return text


def page(
    question: Sequence[str],
    passage: Sequence[str],
    attention: Sequence[float],
    candidates: Sequence[tuple[str, float]],
    word: tuple[str, float],
) -> str:
    """The same as a page of its own, without scripts.

    Args:
        question, passage: words.
        attention: a weight for each word of the passage.
        candidates: possible answers and their probabilities, the most probable first.
        word: the most probable of all words, and its probability.
    """
    colour = ",".join(map(str, _COLOUR))
    spans = "\n".join(
        f'<span style="background: rgba({colour},{strength:.3f})" title="{weight:.4f}">{escape(shown)}</span>'
        for shown, weight, strength in zip(passage, attention, strengths(attention), strict=True)
    )
    rows = "\n".join(
        f"<tr><td>{escape(name)}</td><td>{probability:.4f}</td>"
        f'<td><span class="bar" style="width: {200 * probability:.0f}px"></span></td></tr>'
        for name, probability in candidates
    )
    rest = "" if word[0] == candidates[0][0] else f"; the most probable one is “{escape(word[0])}”, {word[1]:.4f}"
    asked = escape(" ".join(question))
    return _PAGE.format(
        title=asked,
        question=asked,
        answer=escape(candidates[0][0]),
        candidates=rows,
        passage=spans,
        colour=colour,
        rest=rest,
    )
