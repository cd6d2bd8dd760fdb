"""The pictures of a report, from groups of runs of one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bnrnn.figures.curves import Curve, Style, colours, finite, learning_curves
from bnrnn.figures.lengths import lengths_figure
from bnrnn.figures.rows import PaperPoint, rows_figure
from bnrnn.report.comparison import judged, rows_in_words, rows_obstacle
from bnrnn.report.facts import Facts, metric_name
from bnrnn.report.groups import Group, Measured, Sample
from bnrnn.report.runs import Run

_BINS = 150
_SHARES = frozenset({"accuracy", "error", "fer"})


@dataclass(frozen=True)
class Picture:
    """A figure with what belongs below it.

    Args:
        name: for its file.
        figure: the drawing.
        notes: sentences on what is not drawn, and why.
    """

    name: str
    figure: Figure
    notes: tuple[str, ...] = ()


def pictures(name: str, groups: Sequence[Group]) -> list[Picture]:
    """All pictures of an experiment: validation, training, and what was measured over lengths and rows.

    Args:
        name: the experiment's.
        groups: runs of it.
    """
    facts = groups[0].facts
    found = [curve_picture(groups, name)]
    training = training_metric(groups)
    if training != facts.headline:
        found.append(_training_picture(groups, training, f"{name}-training"))
    runs = [run for found_group in groups for run in found_group.runs]
    if measured := [run for run in runs if run.lengths]:
        found.append(Picture(f"{name}-lengths", lengths_picture(measured)))
    if measured := [run for run in runs if run.measured_rows]:
        found.append(Picture(f"{name}-rows", rows_picture(measured)))
    return found


def training_metric(groups: Sequence[Group]) -> str:
    """The metric of the training rows to be drawn: as the config says, that of the paper's figure, or the loss."""
    facts = groups[0].facts
    if facts.training is not None:
        return facts.training
    for found in groups:
        paper = judged(found)
        metrics = [curve.metric for curve in paper.curves if curve.split == "train"] if paper else []
        if metrics:
            return metrics[0]
    return "loss"


def curve_picture(groups: Sequence[Group], name: str = "curves") -> Picture:
    """The validation curves of runs of one experiment over the paper's; training beside them where it has that metric.

    Args:
        groups: runs of one experiment.
        name: for the picture's file.
    """
    facts = groups[0].facts
    colour = _colours(groups)
    curves: list[Curve] = []
    notes: list[str] = []
    for found in groups:
        drawn, note = _validation(found, groups, facts.headline)
        curves += drawn
        notes += note
    if training_metric(groups) == facts.headline:
        for found in groups:
            drawn, note = _training(found, groups, facts.headline)
            curves += drawn
            notes += note
    limits = _limits(facts.headline, curves)
    figure = learning_curves(_ordered(curves), colour, groups[0].subject, facts.axis, limits)
    return Picture(name, figure, tuple(dict.fromkeys(notes)))


def _training_picture(groups: Sequence[Group], metric: str, name: str) -> Picture:
    """A training metric, over the paper's where it has one."""
    curves: list[Curve] = []
    notes: list[str] = []
    for found in groups:
        drawn, note = _training(found, groups, metric)
        curves += drawn
        notes += note
    axis = f"training {metric_name(metric)}"
    figure = learning_curves(_ordered(curves), _colours(groups), groups[0].subject, axis)
    return Picture(name, figure, tuple(dict.fromkeys(notes)))


def lengths_picture(runs: Sequence[Run]) -> Figure:
    """What ``lengths.json`` of runs of one experiment holds, over the paper's curves.

    Raises:
        ValueError: a run has not been measured.
    """
    records = []
    for run in runs:
        if run.lengths is None:
            raise ValueError(f"{run.path} has no lengths.json")
        records.append((run.label, run.lengths))
    papers = [paper for run in runs if (paper := judged(Group((run,)))) is not None]
    return lengths_figure(records, Group(tuple(runs[:1])).subject, papers[0].lengths if papers else ())


def rows_picture(runs: Sequence[Run], metric: str | None = None) -> Figure:
    """What ``rows.json`` of runs of one experiment holds, with the papers' values at the same updates.

    Args:
        runs: runs that have been measured.
        metric: which of the measured metrics; None for the headline.

    Raises:
        ValueError: a run has not been measured.
    """
    records, points = [], []
    for run in runs:
        if run.measured_rows is None:
            raise ValueError(f"{run.path} has no rows.json")
        records.append((run.label, run.measured_rows))
    facts = runs[0].facts
    chosen = metric or facts.headline
    for run in runs:
        point = _paper_point(run, chosen)
        if point is not None and point.value not in [other.value for other in points]:
            points.append(point)
    axis = facts.axis if chosen == facts.headline else f"validation {metric_name(chosen)}"
    return rows_figure(records, chosen, Group(tuple(runs[:1])).subject, axis, points)


def _paper_point(run: Run, metric: str) -> PaperPoint | None:
    """The paper's value at the update of a measurement by rows; its printed one where there is no curve."""
    paper = judged(Group((run,)))
    if paper is None or run.measured_rows is None:
        return None
    curve = paper.curve(run.facts.variant, metric)
    value = curve.at(run.measured_rows["update"]) if curve else None
    if curve is not None and value is not None:
        return PaperPoint(run.label, value, curve.rows)
    printed = [
        result
        for result in paper.results
        if (result.variant, result.split, result.metric) == (run.facts.variant, "valid", metric)
        and result.statistics == "batch"
    ]
    if curve is None and printed:
        return PaperPoint(run.label, printed[0].value, printed[0].rows)
    return None


def _validation(found: Group, groups: Sequence[Group], metric: str) -> tuple[list[Curve], list[str]]:
    facts, paper = found.facts, judged(found)
    points = found.evaluations(metric, facts.statistics)
    curve = paper.curve(facts.variant, metric) if paper else None
    fitting = [point for point in points if curve and rows_obstacle(point.rows, curve.rows) is None]
    main = fitting or [point for point in points if point.rows == points[-1].rows]
    rest = [point for point in points if point not in main]
    curves = [_curve(found, "ours, validation", main)] if main else []
    notes = []
    if rest:
        curves.append(_curve(found, "ours, other rows", rest))
        rows = " and ".join(dict.fromkeys(rows_in_words(point.rows) for point in rest))
        notes.append(
            f"{found.label}: the thin part has statistics of {rows}, the thick one of {rows_in_words(main[-1].rows)}."
        )
    if curve is not None and fitting:
        curves.append(Curve(_model(facts, groups), "paper, validation", curve.updates, curve.values))
    elif curve is not None and points:
        notes.append(
            f"{found.label}: not comparable with the paper's curve:"
            f" {rows_obstacle(points[-1].rows, curve.rows)}."
        )  # fmt: skip
    return curves, notes


def _training(found: Group, groups: Sequence[Group], metric: str) -> tuple[list[Curve], list[str]]:
    points = found.training(metric)
    if not points:
        return [], []
    curves = [_curve(found, "ours, training", _binned(points))]
    paper = judged(found)
    curve = paper.curve(found.facts.variant, metric, "train") if paper else None
    if curve is None:
        return curves, []
    obstacle = rows_obstacle(points[-1].rows, curve.rows)
    if obstacle is not None:
        return curves, [f"{found.label}: not comparable with the paper's training curve: {obstacle}."]
    curves.append(Curve(_model(found.facts, groups), "paper, training", curve.updates, curve.values))
    return curves, []


def _curve(found: Group, style: Style, points: Sequence[Measured]) -> Curve:
    deviations = [point.sample.deviation for point in points]
    return Curve(
        found.label,
        style,
        [point.update for point in points],
        [point.sample.mean for point in points],
        [deviation or 0.0 for deviation in deviations] if len(found.runs) > 1 else None,
    )


def _model(facts: Facts, groups: Sequence[Group]) -> str:
    """The group whose colour a curve of the paper takes: the plainest of its variant."""
    alike = [found for found in groups if found.facts.variant == facts.variant]
    return min(alike, key=lambda found: len(found.facts.options)).label


def _colours(groups: Sequence[Group]) -> dict[str, str]:
    """Colours by variant; of two groups of one variant the one with fewer options of its own has the variant's."""
    plain = sorted(groups, key=lambda found: len(found.facts.options))
    chosen = colours((found.label, found.facts.variant) for found in plain)
    return {found.label: chosen[found.label] for found in groups}


def _ordered(curves: Sequence[Curve]) -> list[Curve]:
    """Each curve of the paper once, and below ours."""
    once = {(curve.model, curve.style): curve for curve in curves if curve.paper}
    return [*once.values(), *(curve for curve in curves if not curve.paper)]


def _binned(points: Sequence[Measured]) -> list[Measured]:
    """Means over equal numbers of points, so that a long curve has no more of them than a picture can show."""
    size = -(-len(points) // _BINS)
    return [
        Measured(part[-1].update, _mean([point.sample.values for point in part]), part[-1].rows)
        for part in (points[start : start + size] for start in range(0, len(points), size))
    ]


def _mean(values: Sequence[tuple[float, ...]]) -> Sample:
    return Sample(tuple(sum(column) / len(column) for column in zip(*values, strict=True)))


def _limits(metric: str, curves: Sequence[Curve]) -> tuple[float, float] | None:
    """What trained models reach: an untrained one's perplexity would press all curves to the floor."""
    ours = [curve for curve in curves if not curve.paper]
    end = max((x for curve in ours for x in curve.updates), default=0)
    first = min((x for curve in ours if curve.style == "ours, validation" for x in curve.updates if x > 0), default=1)
    begin = max(first, end / 25)
    values = finite(y for curve in ours for x, y in zip(curve.updates, curve.values, strict=True) if x >= begin)
    if len(set(values)) < 2:
        return None
    margin = 0.08 * (max(values) - min(values))
    low, high = min(values) - margin, max(values) + margin
    return (max(low, 0.0), min(high, 1.0)) if metric in _SHARES else (low, high)
