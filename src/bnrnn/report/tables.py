"""The tables of a report, as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bnrnn.figures.paper import paper_figure
from bnrnn.report.comparison import Comparison, compare, judged, rows_in_words
from bnrnn.report.facts import metric_name
from bnrnn.report.groups import Group, Sample


@dataclass(frozen=True)
class Table:
    """Head and rows, all of one length.

    Args:
        head: names of the columns.
        rows: the cells.
        words: the columns that hold words, to the left; the others hold numbers.
    """

    head: list[str]
    rows: list[list[str]]
    words: frozenset[str] = frozenset({"run", "metric", "number", "source", "state", "model"})

    def markdown(self) -> str:
        """The table in Markdown, numbers to the right."""
        align = ["---" if name in self.words else "---:" for name in self.head]
        rows = [[_escaped(cell) for cell in row] for row in (self.head, *self.rows)]
        return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], align, *rows[1:]))


def _escaped(cell: str) -> str:
    """A cell that ends neither itself nor its row."""
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|")


def number(value: float | None, sign: str = "") -> str:
    """Four decimals, or one for what is large, as a perplexity."""
    return "" if value is None else f"{value:{sign},.{4 if abs(value) < 20 else 1}f}"


def sampled(sample: Sample | None) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    if sample is None:
        return ""
    spread = sample.deviation
    return number(sample.mean) if spread is None else f"{number(sample.mean)} ± {_like(spread, sample.mean)}"


def _like(spread: float, mean: float) -> str:
    return f"{spread:,.{4 if abs(mean) < 20 else 1}f}"


def difference(row: Comparison | None) -> str:
    """Ours less the paper's and which of the two is better; or why they are not compared."""
    if row is None or row.paper is None:
        return ""
    if row.difference is None:
        return f"not compared: {row.obstacle}"
    decimals = 4 if abs(row.paper) < 20 else 1
    return f"{row.difference:+,.{decimals}f} ({row.verdict})"


@dataclass(frozen=True)
class Summary:
    """What the overview says of a group.

    Args:
        group: the group.
        metric: what it is judged by, in words.
        validation: at our last update; of a complete run where the paper has a number and no curve, the selected
            model's. None of a run without evaluations.
        tests: the selected model's test value by statistics: the paper's own quantity where it has one.
    """

    group: Group
    metric: str
    validation: Comparison | None
    tests: dict[str, Comparison]


def summarize(group: Group) -> Summary:
    """Chooses the numbers that stand for a group."""
    found = compare(group)
    latest = next((row for row in found if row.latest), None)
    if latest is not None and latest.paper is None and group.complete:
        final = [row for row in found if row.split == "valid" and not row.latest and row.paper is not None]
        latest = final[0] if final else latest
    tests: dict[str, Comparison] = {}
    for row in found:
        if row.split != "test":
            continue
        best = tests.get(row.statistics)
        if best is None or (row.paper is not None and best.paper is None):
            tests[row.statistics] = row
    return Summary(group, metric_name(group.facts.headline), latest, tests)


def overview(groups: Iterable[Group]) -> Table:
    """One row a group: validation and test beside the paper's. The trials of a sweep are not among them."""
    head = ["run", "metric", "updates", "validation", "paper there", "difference", "test (batch)", "test (population)",
            "paper's test"]  # fmt: skip
    rows = []
    for group in groups:
        if group.is_trial:
            continue
        summary = summarize(group)
        latest, batch, population = summary.validation, summary.tests.get("batch"), summary.tests.get("population")
        rows.append(
            [
                f"{group.subject} {group.label}",
                summary.metric,
                group.length,
                sampled(latest and latest.ours),
                number(latest and latest.paper),
                difference(latest),
                _test(batch, group),
                _test(population, group),
                number(population and population.paper),
            ]
        )
    return Table(head, rows)


def _test(row: Comparison | None, group: Group) -> str:
    """A test value; where it is another quantity than the headline, it says which."""
    if row is None:
        return ""
    told = sampled(row.ours)
    if row.metric == group.facts.headline:
        return told
    rest = metric_name(row.metric).removeprefix(metric_name(group.facts.headline)).lstrip(", ")
    return f"{told} ({rest})"


def comparison_table(groups: Iterable[Group]) -> Table:
    """Every number of some groups beside the paper's."""
    rows = [
        [group.label, row.what, number(row.paper), sampled(row.ours), difference(row), row.where]
        for group in groups
        for row in compare(group)
    ]
    return Table(["run", "number", "paper", "ours", "difference", "source"], rows)


def paper_table(groups: Sequence[Group]) -> Table | None:
    """The paper's own table, a column for each printed number, with our rows under each of its.

    Runs that the paper's numbers cannot stand beside have rows of their own at the end; where there are only such, the
    table has the paper's shape and no number of it. None where the paper prints none.
    """
    paper = next((paper for group in groups if (paper := paper_figure(group.facts.figure)) is not None), None)
    if paper is None or not paper.results:
        return None
    columns = list(dict.fromkeys((result.split, result.metric) for result in paper.results))
    head = ["model", "updates", *(f"{_PARTS.get(split, split)} {metric_name(metric)}" for split, metric in columns)]
    like = [group for group in groups if judged(group) is not None]
    others = [group for group in groups if group not in like]
    rows: list[list[str]] = []
    for variant in dict.fromkeys(result.variant for result in paper.results) if like else ():
        printed: dict[tuple[str, str], float] = {}
        for result in paper.results:
            if result.variant == variant:
                printed.setdefault((result.split, result.metric), result.value)
        name = paper.names.get(variant, variant)
        rows.append([f"{name} (paper)", "", *(number(printed.get(column)) for column in columns)])
        rows += [_row(group, columns) for group in like if group.facts.variant == variant]
    named = {result.variant for result in paper.results}
    rows += [_row(group, columns) for group in like if group.facts.variant not in named]
    return Table(head, rows + [_row(group, columns) for group in others])


_PARTS = {"valid": "validation", "train": "training"}


def _row(group: Group, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Our values of the paper's columns: with its statistics, where it says which, and the rows where those differ."""
    found: dict[tuple[str, str], Comparison] = {}
    for row in compare(group):
        place = found.get((row.split, row.metric))
        usual = "population" if row.split == "test" else group.facts.statistics
        if not row.latest and (
            place is None or (place.paper is None and (row.paper is not None or row.statistics == usual))
        ):
            found[row.split, row.metric] = row
    cells = []
    for column in columns:
        row = found.get(column)
        rows = f" ({rows_in_words(row.rows)})" if row is not None and row.other_rows else ""
        cells.append(sampled(row and row.ours) + rows)
    return [group.label, group.length, *cells]
