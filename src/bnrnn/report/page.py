"""The report: one self-contained HTML page, its pictures as PNG files beside it, and its tables as plain data."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnrnn.figures.curves import Curve, learning_curves, png
from bnrnn.figures.lengths import lengths_figure
from bnrnn.figures.paper import PaperExperiment, paper_experiment, paper_source
from bnrnn.report.runs import Run

Rows = list[list[str]]


@dataclass(frozen=True)
class Comparison:
    """One row of paper / ours / difference.

    Args:
        run: ours.
        metric, split, statistics: which number.
        update: the update that it was taken at.
        latest: whether it is the last point of the validation curve, else it is the selected model's.
        paper: the paper's value, None where it has none.
        ours: our value.
        where: where in the paper.
        same_length: whether both values are after the same number of updates.
    """

    run: Run
    metric: str
    split: str
    statistics: str
    update: int
    latest: bool
    paper: float | None
    ours: float
    where: str
    same_length: bool

    @property
    def what(self) -> str:
        """The number in words."""
        part = {"valid": "validation"}.get(self.split, self.split)
        model = "at" if self.latest else "model of"
        return f"{part} {self.metric}, {self.statistics} statistics, {model} update {self.update:,}"

    @property
    def difference(self) -> float | None:
        return None if self.paper is None else self.ours - self.paper


def headline(run: Run, paper: PaperExperiment | None) -> str:
    """The metric that an experiment is judged by."""
    if paper is not None:
        return paper.metric
    names = [name for row in run.rows if row["kind"] == "evaluation" for name in row]
    return next((name for name in ("accuracy", "bpc", "perplexity", "loss") if name in names), "loss")


def is_paper_model(run: Run) -> bool:
    """Whether the papers' numbers can stand beside the run's: they are those of LSTMs on whole data sets."""
    config = run.config["config"]
    return config.get("cell", "lstm") == "lstm" and config.get("slice") is None


def compare(run: Run) -> list[Comparison]:
    """The run's numbers beside the paper's: on the curve at our last update, and the final ones."""
    paper = paper_experiment(run.experiment)
    metric = headline(run, paper)
    judged = paper if is_paper_model(run) else None
    rows: list[Comparison] = []
    updates, values = run.curve(metric)
    if updates:
        curve = judged.curves.get(run.norm) if judged else None
        rows.append(
            Comparison(
                run,
                metric,
                "valid",
                "batch",
                updates[-1],
                True,
                curve.at(updates[-1]) if curve else None,
                values[-1],
                judged.figure or "" if judged and curve else "",
                same_length=True,
            )
        )
    evaluation = dict((run.result or {}).get("evaluation", {}))
    if (training := run.training_perplexity()) is not None:
        evaluation["train"] = {"batch": {metric: training}}
    for split, kinds in evaluation.items():
        for statistics, metrics in kinds.items():
            printed = {
                result.metric or metric: result
                for result in (judged.results if judged else ())
                if (result.norm, result.split, result.statistics) == (run.norm, split, statistics)
            }
            for name in dict.fromkeys([metric, *printed]):
                if name in metrics:
                    rows.append(
                        Comparison(
                            run,
                            name,
                            split,
                            statistics,
                            (run.result or {})["selected"]["update"],
                            False,
                            printed[name].value if name in printed else None,
                            metrics[name],
                            printed[name].where if name in printed else "",
                            same_length=run.complete,
                        )
                    )
    return rows


def summary_table(runs: Iterable[Run]) -> tuple[list[str], Rows]:
    """Head and rows of the overview, one row a run: validation and test beside the paper's.

    Validation is at our last update; of a complete run where the paper has a number and no curve, the selected model's.
    """
    head = [
        "run",
        "metric",
        "updates",
        "validation",
        "paper there",
        "difference",
        "test (batch)",
        "test (population)",
        "paper's test",
    ]
    rows = []
    for run in runs:
        found = compare(run)
        latest = next((row for row in found if row.latest), None)
        if latest is not None and latest.paper is None and run.complete:
            final = [row for row in found if row.split == "valid" and not row.latest and row.paper is not None]
            latest = final[0] if final else latest
        tests = {row.statistics: row for row in found if row.split == "test"}
        batch, population = tests.get("batch"), tests.get("population")
        rows.append(
            [
                f"{run.experiment} {run.label}",
                found[0].metric if found else "",
                run.length if run.complete else f"{run.length} (partial)",
                _number(latest and latest.ours),
                _number(latest and latest.paper),
                _number(latest and latest.difference, "+"),
                _number(batch and batch.ours),
                _number(population and population.ours),
                _number(population and population.paper),
            ]
        )
    return head, rows


def markdown_table(head: list[str], rows: Rows) -> str:
    """A table in Markdown, numbers to the right."""
    align = ["---" if name in ("run", "metric") else "---:" for name in head]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, align, *rows])


def _number(value: float | None, sign: str = "") -> str:
    """Four decimals, or one for what is large, as a perplexity."""
    return "" if value is None else f"{value:{sign},.{4 if abs(value) < 20 else 1}f}"


def comparison_table(runs: Iterable[Run]) -> tuple[list[str], Rows]:
    """Head and rows of the table paper / ours / difference."""
    head = ["run", "state", "number", "paper", "ours", "difference", "source"]
    rows = []
    for run in runs:
        for row in compare(run):
            note = "" if row.same_length or row.paper is None else " (full length; ours is partial)"
            rows.append(
                [
                    f"{run.experiment} {run.label}",
                    run.status,
                    row.what,
                    _number(row.paper),
                    _number(row.ours),
                    _number(row.difference, "+"),
                    row.where + note,
                ]
            )
    return head, rows


def curve_figure(runs: Sequence[Run]) -> bytes:
    """The validation curves of runs of one experiment over the paper's, as PNG."""
    experiment = runs[0].experiment
    paper = paper_experiment(experiment)
    metric = headline(runs[0], paper)
    curves = []
    for run in runs:
        updates, values = run.curve(metric, paper.statistics if paper else "batch")
        partial = "" if run.complete else ", partial"
        curves.append(Curve(f"{run.label} (ours{partial})", run.norm, updates, values))
    norms = {run.norm for run in runs if is_paper_model(run)}
    for norm, curve in (paper.curves if paper else {}).items():
        if norm in norms:
            curves.append(Curve(curve.name, norm, curve.updates, curve.values, paper=True))
    axis = paper.axis if paper else f"validation {metric}"
    limits = (0.0, 1.0) if metric == "accuracy" else _trained_range(curves)
    return png(learning_curves(curves, f"{experiment}: validation, batch statistics", axis, limits))


def _trained_range(curves: Iterable[Curve]) -> tuple[float, float] | None:
    """What trained models reach: an untrained one's perplexity would press all curves to the floor."""
    values = [y for curve in curves if not curve.paper
              for x, y in zip(curve.updates, curve.values, strict=True) if x > 0]  # fmt: skip
    if not values:
        return None
    margin = 0.08 * (max(values) - min(values)) or 0.08 * abs(max(values))
    return min(values) - margin, max(values) + margin


def loss_figure(runs: Sequence[Run]) -> bytes:
    """The training loss of runs of one experiment, as PNG."""
    curves = [Curve(run.label, run.norm, *run.training_curve("loss")) for run in runs]
    return png(learning_curves(curves, f"{runs[0].experiment}: training loss", "cross-entropy, nats"))


def write_report(runs: Sequence[Run], folder: Path, command: str) -> Path:
    """Writes ``index.html``, the pictures and the overview ``table.md``, and returns the page's path.

    Args:
        runs: what to report on.
        folder: where to; created where missing.
        command: how to make the page again.

    Raises:
        ValueError: there is no run to report on.
        OSError: the folder cannot be written.
    """
    if not runs:
        raise ValueError("there is no run to report on; train one with bnrnn run, or name run folders")
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    sections = []
    for name, group in groups.items():
        pictures = {f"{name}.png": curve_figure(group), f"{name}-training.png": loss_figure(group)}
        measured = [(run.label, run.lengths) for run in group if run.lengths is not None]
        if measured:
            pictures[f"{name}-lengths.png"] = png(lengths_figure(measured))
        for file, content in pictures.items():
            (folder / file).write_bytes(content)
        sections.append(_section(name, group, list(pictures.values())))
    overview = summary_table(runs)
    (folder / "table.md").write_text(markdown_table(*overview))
    body = "\n".join([_html_table(*overview), *sections])
    page = folder / "index.html"
    page.write_text(_PAGE.format(body=body, source=_text(paper_source()), command=_text(command)))
    return page


def _section(name: str, runs: Sequence[Run], pictures: Sequence[bytes]) -> str:
    facts = runs[0].config
    images = "\n".join(
        f'<img alt="{_text(name)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for picture in pictures
    )
    settings = "\n".join(_settings(run) for run in runs)
    return (
        f"<section><h2>{_text(name)}</h2>\n<p>{_text(facts.get('summary', ''))}."
        f" {_text(facts.get('paper', ''))}: {_text(facts.get('target', ''))}.</p>\n"
        f'<div class="pictures">{images}</div>\n{_html_table(*comparison_table(runs))}\n'
        f"<h3>Settings</h3>\n{settings}</section>"
    )


def _settings(run: Run) -> str:
    changed = run.config.get("changed", {})
    told = ", ".join(f"{name} {value}" for name, value in changed.items()) or "all as by default"
    starts = [
        f"{start['started']}: {start['processor']}, {start['threads']} threads, {start['device']},"
        f" torch {start['versions']['torch']}, commit {start['commit']}; {start['command']}"
        for start in run.environments
    ]
    seconds = (run.result or {}).get("seconds")
    pace = f"; {seconds:,.0f} s, {run.updates / seconds:.2f} updates/s" if seconds else ""
    return (
        f"<details><summary><b>{_text(run.label)}</b>: {_text(told)}; {_text(run.status + pace)}</summary>"
        f"<pre>{_text(json.dumps(run.config['config'], indent=1))}</pre>"
        f"<pre>{_text(chr(10).join(starts))}</pre></details>"
    )


def _html_table(head: list[str], rows: Rows) -> str:
    numeric = set(head) - {"run", "metric", "state", "number", "source"}
    top = "".join(f"<th>{_text(name)}</th>" for name in head)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="number">{_text(cell)}</td>' if name in numeric else f"<td>{_text(cell)}</td>"
            for name, cell in zip(head, row, strict=True)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _text(value: str) -> str:
    return html.escape(value)


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>bnrnn: report</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h2 {{ border-bottom: 1px solid #ccc; margin-top: 2.5rem; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }}
img {{ width: 100%; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; margin: 1rem 0; }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
pre {{ background: #f6f6f6; padding: .6rem; overflow-x: auto; font-size: 12px; }}
</style>
<body>
<h1>bnrnn: our runs beside the papers</h1>
<p>Solid lines are ours, dashed lines the paper's own curves. The difference is ours minus the paper's; on a curve
both are at the same number of updates. A run shorter than the experiment's full length is called partial
everywhere.</p>
{body}
<h2>How this page was made</h2>
<p>From run folders alone, by</p>
<pre>{command}</pre>
<p>Every run's own command stands under its settings. The paper's numbers: {source}</p>
</body>
</html>
"""
