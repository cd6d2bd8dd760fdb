"""The papers' claims, each with the rule by which our records speak for or against it.

A rule reads run folders and the numbers of figures, and gives a verdict with its evidence. Nothing here is typed in by
hand: a claim of which the records hold too little is open.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from bnrnn.figures.paper_analyses import paper_gamma_curves
from bnrnn.report.gammas import gain_of
from bnrnn.report.groups import Group
from bnrnn.report.search import last_loss, paired

Verdict = Literal["reproduced", "not reproduced", "open"]

LAURENT, COOIJMANS = "Laurent et al. 2015", "Cooijmans et al. 2017"
FEWEST_PAIRS = 8
"""Pairs of the search in which both nets must have converged before it says anything."""
FIGURES = Path("records/figures")


@dataclass(frozen=True)
class Claim:
    """A claim and what our records say of it.

    Args:
        paper: whose.
        statement: in our words.
        rule: when it counts as reproduced.
        verdict: by that rule.
        evidence: the numbers, and the runs they are of.
    """

    paper: str
    statement: str
    rule: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Records:
    """What the rules look at.

    Args:
        groups: runs, those that differ in the seed alone as one.
        figures: folder of the figures' numbers.
    """

    groups: tuple[Group, ...]
    figures: Path

    def pairs(self, figures: Iterable[str], baseline: str, normalized: str) -> list[tuple[Group, Group]]:
        """Groups of one experiment and equal options that differ in the variant, where the paper's options hold."""
        found = []
        for figure in figures:
            for experiment in dict.fromkeys(group.subject for group in self.groups):
                own = [g for g in self.groups if g.subject == experiment and g.facts.figure == figure]
                plain = max((g for g in own if g.facts.variant == baseline), key=_updates, default=None)
                other = max((g for g in own if g.facts.variant == normalized), key=_updates, default=None)
                if plain is not None and other is not None:
                    found.append((plain, other))
        return found


Outcome = tuple[Verdict, str]


def claims(groups: Sequence[Group], figures: Path = FIGURES) -> list[Claim]:
    """Every claim of both papers that our records can speak on, in the papers' order."""
    records = Records(tuple(groups), figures)
    return [Claim(paper, statement, rule, *judge(records)) for paper, statement, rule, judge in RULES]


# Laurent et al. 2015


def hidden_to_hidden(records: Records) -> Outcome:
    """Of the pairs of a search, the share in which the normalized net ends lower though the baseline converged."""
    pairs = paired(run for group in records.groups for run in group.runs)
    losses = [(last_loss(plain), last_loss(other)) for plain, other in pairs]
    differences = [b - a for a, b in losses if a is not None and b is not None]
    if len(differences) < FEWEST_PAIRS:
        return "open", f"{len(differences)} pairs converged of {len(pairs)}; {FEWEST_PAIRS} are needed"
    rescued = sum(a is None and b is not None for a, b in losses)
    wins = sum(difference < 0 for difference in differences)
    updates = max(run.updates for pair in pairs for run in pair)
    holds = median(differences) >= 0 and wins <= len(differences) / 2
    return ("reproduced" if holds else "not reproduced"), (
        f"{len(pairs)} pairs of {updates:,} updates: of {len(differences)} in which both converged the normalized net"
        f" ends lower in {wins}, median difference {median(differences):+.3f} nats of training loss; it converged in"
        f" {rescued} in which the baseline diverged"
    )


def input_faster_training(records: Records) -> Outcome:
    """Training loss at the last update that both have."""
    return _over_pairs(
        records.pairs(WORDS_AND_SPEECH, "none", "input-frame") + records.pairs(("wsj",), "none", "input-sequence"),
        _training_difference,
        "loss",
    )


def input_no_better(records: Records) -> Outcome:
    """The best validation value of both: the normalized net's is not better by more than 1 %."""
    pairs = records.pairs(WORDS_AND_SPEECH, "none", "input-frame") + records.pairs(("wsj",), "none", "input-sequence")
    found = [(plain, other, *_best(plain, other)) for plain, other in pairs]
    found = [(plain, other, a, b) for plain, other, a, b in found if a is not None and b is not None]
    if not found:
        return "open", "no pair of runs yet"
    told = "; ".join(
        f"{plain.subject}: {b:.4g} against {a:.4g} without, {other.length}" for plain, other, a, b in found
    )
    holds = all(not _gains(plain, a, b, 0.01) for plain, _, a, b in found)
    return ("reproduced" if holds else "not reproduced"), f"best validation {found[0][0].facts.headline}, {told}"


# Cooijmans et al. 2017


def faster(records: Records) -> Outcome:
    """The normalized net has passed the baseline's last validation value at fewer updates."""
    pairs = records.pairs(TASKS, "none", "recurrent") + records.pairs(READING, "lstm", "bn-lstm")
    told, holds = [], []
    for plain, other in pairs:
        a, b = (group.evaluations(group.facts.headline, group.facts.statistics) for group in (plain, other))
        end = min((points[-1].update for points in (a, b) if points), default=0)
        a = [point for point in a if 0 < point.update <= end]
        if not a or not b:
            continue
        best = max if plain.facts.better == "higher" else min
        goal = best(point.sample.mean for point in a)
        reached = next((p.update for p in a if p.sample.mean == goal), end)
        passed = next((p.update for p in b if p.update > 0 and not _gains(plain, p.sample.mean, goal, 0.0)), None)
        holds.append(passed is not None and passed <= reached)
        when = f"at update {passed:,}" if passed is not None else f"not within {end:,} updates"
        told.append(f"{plain.subject}: the baseline's best of {goal:.4g} at {reached:,}, the normalized net's {when}")
    return _verdict(holds, told)


def better(records: Records) -> Outcome:
    """Test value with population statistics, of complete runs alone."""
    told, holds = [], []
    for plain, other in records.pairs(TASKS, "none", "recurrent"):
        if not (plain.complete and other.complete):
            continue
        metric = next(
            (m for m in ("bpc_sequence", plain.facts.headline) if m in other.final("test", "population")[0]), ""
        )
        (a, _), (b, _) = plain.final("test", "population"), other.final("test", "population")
        if metric in a and metric in b:
            holds.append(_gains(plain, a[metric].mean, b[metric].mean, 0.0))
            told.append(f"{plain.subject}: test {metric} {b[metric].mean:.4g} against {a[metric].mean:.4g} without")
    return _verdict(holds, told, "no pair of complete runs yet")


def gradients(records: Records) -> Outcome:
    """Gradient norms at initialisation: flat at small gains, vanishing at large ones."""
    columns = _columns(records.figures / "gradient-flow.csv")
    norms = {float(name.rpartition(" ")[2]): values for name, values in columns.items() if name.startswith("BN-RNN")}
    small = {gamma: values for gamma, values in norms.items() if gamma <= 0.3}
    large = {gamma: values for gamma, values in norms.items() if gamma >= 0.7}
    if not small or not large or any(len(values) < 784 for values in norms.values()):
        return "open", "bnrnn figure gradient-flow has not been drawn into the records"
    spans = [math.log10(value) for values in small.values() for value in values[10:]]
    losses = [math.log10(values[783]) - math.log10(values[483]) for values in large.values()]
    holds = min(spans) > -3.2 and max(spans) < -1.0 and min(losses) >= 10
    return ("reproduced" if holds else "not reproduced"), (
        f"gains up to .3: the norm's logarithm stays within {min(spans):.2f} to {max(spans):.2f} over steps 10 to 783;"
        f" gains from .7 lose {min(losses):.1f} decades or more over the last 300 steps"
    )


def gamma_pixels(records: Records) -> Outcome:
    """Permuted MNIST: the gains stand in the paper's order by validation loss at the last common update."""
    found = _by_gamma(records, "pmnist", "loss")
    if len(found) < 3:
        return "open", f"gains on pmnist at a common update: {len(found)}; 3 are needed"
    update, values = _at_common(found)
    paper = _paper_by_gamma("pmnist", update, values)
    verdict: Verdict = "reproduced" if _order(values) == _order(paper) else "not reproduced"
    return verdict, f"validation loss at update {update:,} by gain: {_told(values)}; the paper's {_told(paper)}"


def gamma_characters(records: Records) -> Outcome:
    """Characters: the gains differ by less than a tenth of a bit."""
    found = _by_gamma(records, "ptb-char", "bpc")
    if len(found) < 3:
        return "open", f"gains on ptb-char at a common update: {len(found)}; 3 are needed"
    update, values = _at_common(found)
    paper = _paper_by_gamma("ptb-char", update, values)
    spread = max(values.values()) - min(values.values())
    verdict: Verdict = "reproduced" if spread < 0.1 else "not reproduced"
    order = "the paper's order" if _order(values) == _order(paper) else "not the paper's order"
    return verdict, (
        f"validation bits at update {update:,} by gain: {_told(values)}; spread {spread:.3f}; the paper's"
        f" {_told(paper)}: {order}"
    )


def longer(records: Records) -> Outcome:
    """Bits per character fall, or stay, from the training length to 1,000, and population statistics are the better."""
    runs = [
        run for group in records.groups for run in group.runs if run.lengths is not None and run.norm == "recurrent"
    ]
    if not runs:
        return "open", "bnrnn figure lengths has not measured a normalized run"
    told, holds = [], []
    for run in runs:
        assert run.lengths is not None
        bits, lengths = run.lengths["bpc"], run.lengths["lengths"]
        population, batch = bits["population"], bits["batch"]
        holds.append(population[-1] <= population[0] and all(p < b for p, b in zip(population, batch, strict=True)))
        told.append(
            f"{run.experiment} {run.label}, update {run.lengths['update']:,}: {population[0]:.3f} at length"
            f" {lengths[0]:,} to {population[-1]:.3f} at {lengths[-1]:,}; with batch statistics {batch[0]:.3f} to"
            f" {batch[-1]:.3f}"
        )
    return _verdict(holds, told)


def population(records: Records) -> Outcome:
    """Population statistics estimated by a pass serve: no worse than the batch's own by more than 1 % of the value."""
    told, holds = [], []
    for group in records.groups:
        if group.facts.variant != "recurrent" or group.facts.figure not in TASKS or group.is_trial:
            continue
        (batch, _), (whole, _) = group.final("test", "batch"), group.final("test", "population")
        metric = group.facts.headline
        if metric in batch and metric in whole:
            a, b = batch[metric].mean, whole[metric].mean
            holds.append(not _gains(group, b, a, 0.01))
            told.append(f"{group.subject} {group.label}: test {metric} {b:.4g} against {a:.4g} with the batch's own")
    return _verdict(holds, told)


TASKS = ("smnist", "pmnist", "ptb-char", "text8")
WORDS_AND_SPEECH = ("ptb-word-small", "ptb-word-medium", "ptb-word-large", "wsj")
READING = ("cnn-top4",)

RULES: tuple[tuple[str, str, str, Callable[[Records], Outcome]], ...] = (
    (
        LAURENT,
        "Normalization from hidden to hidden state does not help",
        "Of random draws in which both nets converge the normalized one ends with the lower training loss in no more"
        " than half, and the median difference is not below 0.",
        hidden_to_hidden,
    ),
    (
        LAURENT,
        "Normalization from input to hidden state makes the training loss fall faster",
        "At the last update that both have, the normalized net's training loss is the lower one, in every pair.",
        input_faster_training,
    ),
    (
        LAURENT,
        "It does not make the net generalise better",
        "The normalized net's best validation value is not better than the baseline's by more than 1 %, in every pair.",
        input_no_better,
    ),
    (
        COOIJMANS,
        "BN-LSTM converges faster",
        "In every pair the normalized net passes the baseline's best validation value at no more updates.",
        faster,
    ),
    (
        COOIJMANS,
        "It generalises better",
        "In every pair of complete runs its test value, with population statistics, is the better one.",
        better,
    ),
    (
        COOIJMANS,
        "Large initial gains make gradients vanish, small ones keep them",
        "At initialisation, gains up to .3: the norm stays within 10^-3.2 to 10^-1 over steps 10 to 783; gains from .7:"
        " it loses 10 decades or more over the last 300 steps.",
        gradients,
    ),
    (
        COOIJMANS,
        "A large initial gain hurts where feedback comes at the end only",
        "On permuted MNIST the gains stand in the paper's order by validation loss at the last common update.",
        gamma_pixels,
    ),
    (
        COOIJMANS,
        "It makes no difference where feedback comes at every step",
        "On characters the gains' validation bits at the last common update lie within .1.",
        gamma_characters,
    ),
    (
        COOIJMANS,
        "BN-LSTM generalises to sequences longer than any in training",
        "Bits at the longest pieces are not above those at the training length, and population statistics are better"
        " than the batch's own at every length.",
        longer,
    ),
    (
        COOIJMANS,
        "Statistics of each time step, estimated over the training data, serve at test time",
        "With them no test value is worse by more than 1 % than with the test batch's own.",
        population,
    ),
)


def _verdict(holds: Sequence[bool], told: Sequence[str], nothing: str = "no pair of runs yet") -> Outcome:
    if not holds:
        return "open", nothing
    return ("reproduced" if all(holds) else "not reproduced"), "; ".join(told)


def _over_pairs(
    pairs: Sequence[tuple[Group, Group]],
    measure: Callable[[Group, Group, str], tuple[int, float, float] | None],
    metric: str,
) -> Outcome:
    told, holds = [], []
    for plain, other in pairs:
        found = measure(plain, other, metric)
        if found is not None:
            update, a, b = found
            holds.append(b < a)
            told.append(f"{plain.subject}: {b:.4g} against {a:.4g} without at update {update:,}")
    return _verdict(holds, [f"training {metric}, {told[0]}", *told[1:]] if told else [])


def _training_difference(plain: Group, other: Group, metric: str) -> tuple[int, float, float] | None:
    a, b = ({point.update: point.sample.mean for point in group.training(metric)} for group in (plain, other))
    common = a.keys() & b.keys()
    return (max(common), a[max(common)], b[max(common)]) if common else None


def _best(*groups: Group) -> list[float | None]:
    found = []
    for group in groups:
        values = [p.sample.mean for p in group.evaluations(group.facts.headline, group.facts.statistics) if p.update]
        choose = max if group.facts.better == "higher" else min
        found.append(choose(values) if values else None)
    return found


def _gains(group: Group, a: float, b: float, share: float) -> bool:
    """Whether b is better than a by more than a share of it."""
    sign = 1 if group.facts.better == "higher" else -1
    return sign * (b - a) > share * abs(a)


def _updates(group: Group) -> int:
    return min(run.updates for run in group.runs)


ByGamma = dict[float, dict[tuple[int, int | None], float]]
"""Gain to update and rows of the statistics, to the value."""


def _by_gamma(records: Records, figure: str, metric: str) -> ByGamma:
    found: ByGamma = {}
    for group in records.groups:
        if group.experiment == figure and group.facts.variant == "recurrent":
            own = found.setdefault(gain_of(group.first), {})
            for point in group.evaluations(metric, "batch"):
                own.setdefault((point.update, point.rows), point.sample.mean)
    common = set.intersection(*(set(values) for values in found.values())) if found else set()
    return found if common else {}


def _at_common(found: ByGamma) -> tuple[int, dict[float, float]]:
    """The last update that all gains have with statistics of as many rows, and their values there."""
    common = set.intersection(*(set(values) for values in found.values()))
    last = max(common, key=lambda key: key[0])
    return last[0], {gamma: found[gamma][last] for gamma in sorted(found)}


def _paper_by_gamma(task: str, update: int, gains: Iterable[float]) -> dict[float, float]:
    """The paper's values of these gains on its curves at an update."""
    curves = paper_gamma_curves(task, "valid")
    values = {gamma: curves[gamma].at(update) for gamma in gains if gamma in curves}
    return {gamma: value for gamma, value in values.items() if value is not None}


def _order(values: dict[float, float]) -> list[float]:
    return sorted(values, key=values.__getitem__)


def _told(values: dict[float, float]) -> str:
    return ", ".join(f"{gamma:g}: {value:.3f}" for gamma, value in values.items())


def _columns(path: Path) -> dict[str, list[float]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name]) for row in rows] for name in rows[0]} if rows else {}
