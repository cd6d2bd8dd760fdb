"""Our numbers beside the papers': like for like, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bnrnn.figures.paper import PaperFigure, paper_figure
from bnrnn.report.facts import metric_name
from bnrnn.report.groups import Group, Measured, Sample
from bnrnn.report.runs import NEIGHBOURS


@dataclass(frozen=True)
class Comparison:
    """One of our numbers, and the paper's where it can stand beside it.

    Args:
        group: whose.
        metric, split, statistics: which number.
        update: what it was taken at, None where runs of several seeds have selected models of several updates.
        latest: whether it is the last point of the validation curve, else it is the selected model's.
        ours: our value.
        rows: over how many rows its statistics were taken, None without batch statistics.
        paper: the paper's value, None where it has none.
        where: where in the paper.
        paper_rows: over how many rows the paper's was taken, any of these; empty where nothing says so.
        whole: whether the paper's is of the full length, where ours need not be.
    """

    group: Group
    metric: str
    split: str
    statistics: str
    update: int | None
    latest: bool
    ours: Sample
    rows: int | None
    paper: float | None = None
    where: str = ""
    paper_rows: tuple[int, ...] = ()
    whole: bool = False

    @property
    def what(self) -> str:
        """The number in words."""
        part = {"valid": "validation", "train": "training"}.get(self.split, self.split)
        of = f"{self.statistics} statistics"
        if self.rows is not None:
            of += f" of {rows_in_words(self.rows)}"
        model = "at" if self.latest else "model of"
        place = f", {model} update {self.update:,}" if self.update is not None else ", selected models"
        return f"{part} {metric_name(self.metric)}, {of}{place}"

    @property
    def other_rows(self) -> bool:
        """Whether the statistics of ours and of the paper's were taken over different numbers of rows."""
        return rows_obstacle(self.rows, self.paper_rows) is not None

    @property
    def obstacle(self) -> str | None:
        """Why the paper's value is shown, but not compared; None where it is."""
        rows = rows_obstacle(self.rows, self.paper_rows)
        length = "the paper's is of the full length" if self.whole and not self.group.complete else None
        return "; ".join(filter(None, (rows, length))) or None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's, None where they are not compared."""
        return None if self.paper is None or self.obstacle is not None else self.ours.mean - self.paper

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"equal"``; empty where there is no difference to judge."""
        if self.difference is None:
            return ""
        if self.difference == 0:
            return "equal"
        return "better" if self.group.facts.is_better(self.metric, self.difference) else "worse"


def judged(group: Group) -> PaperFigure | None:
    """The papers' numbers that can stand beside a group's, None where there are none.

    Curves over epochs are put over updates, by the updates that an epoch has in the group.
    """
    paper = None if group.facts.obstacle is not None else paper_figure(group.facts.figure)
    if paper is None or paper.unit == "updates":
        return paper
    epoch = group.first.epoch_length
    if epoch is None:
        return replace(paper, curves=())
    curves = tuple(replace(curve, updates=tuple(x * epoch for x in curve.updates)) for curve in paper.curves)
    return replace(paper, curves=curves, unit="updates")


def rows_obstacle(ours: int | None, paper: tuple[int, ...]) -> str | None:
    """Why two values cannot be compared, by the rows that their statistics were taken over."""
    if ours is None or not paper or ours in paper:
        return None
    if ours == NEIGHBOURS:
        return "batches of neighbours in the file, the paper's shuffled"
    return f"statistics of {ours:,} rows, the paper's of {' or '.join(f'{rows:,}' for rows in paper)}"


def rows_in_words(rows: int | None) -> str:
    """What statistics were taken over."""
    return {None: "no rows", NEIGHBOURS: "neighbours in the file"}.get(rows) or f"{rows:,} rows"


def compare(group: Group) -> list[Comparison]:
    """A group's numbers beside the paper's: on the curve at our last update, and the final ones."""
    facts, paper = group.facts, judged(group)
    found: list[Comparison] = []
    points = group.evaluations(facts.headline, facts.statistics)
    if points:
        found.append(_latest(group, points[-1], paper))
    update = group.first.selected if len(group.runs) == 1 else None
    for split, statistics, metrics, rows in _final(group):
        printed = [
            result
            for result in (paper.results if paper else ())
            if (result.variant, result.split) == (facts.variant, split)
            and result.statistics in (statistics, None)
            and result.metric in metrics
        ]
        shown = [facts.headline, *facts.also, *(result.metric for result in printed)]
        shown += metrics if split == "train" else ()
        shown += [name for name in metrics if name.startswith(f"{facts.headline}_")]
        for name in dict.fromkeys(shown):
            if name not in metrics:
                continue
            ours = Comparison(group, name, split, statistics, update, False, metrics[name], rows)
            results = [result for result in printed if result.metric == name]
            if not results:
                found.append(ours)
            for result in results:
                found.append(replace(ours, paper=result.value, where=result.where, paper_rows=result.rows, whole=True))
    return found


def _latest(group: Group, point: Measured, paper: PaperFigure | None) -> Comparison:
    facts = group.facts
    curve = paper.curve(facts.variant, facts.headline) if paper else None
    there = curve.at(point.update) if curve else None
    return Comparison(
        group,
        facts.headline,
        "valid",
        facts.statistics,
        point.update,
        True,
        point.sample,
        point.rows,
        there,
        curve.where if curve and there is not None else "",
        curve.rows if curve and there is not None else (),
    )


def _final(group: Group) -> list[tuple[str, str, dict[str, Sample], int | None]]:
    """The selected models' metrics by part and statistics; of the training part those of the training rows, where the
    paper prints such."""
    evaluation = (group.first.result or {}).get("evaluation", {})
    found = [
        (split, statistics, *group.final(split, statistics))
        for split, kinds in evaluation.items()
        for statistics in kinds
    ]
    paper = paper_figure(group.facts.figure)
    if "train" not in evaluation and paper is not None:
        names = dict.fromkeys(result.metric for result in paper.results if result.split == "train")
        trained = {name: sample for name in names if (sample := group.trained(name)) is not None}
        rows = next((point.rows for name in trained for point in group.training(name)), None)
        if trained:
            found.insert(0, ("train", "batch", trained, rows))
    return found
