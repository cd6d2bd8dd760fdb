"""The report: one HTML page that needs no other file, its pictures as SVG files beside it, its overview in Markdown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from bnrnn.figures.files import svg
from bnrnn.figures.paper import paper_source
from bnrnn.report.claims import claims
from bnrnn.report.comparison import judged
from bnrnn.report.groups import Group, group
from bnrnn.report.pictures import pictures
from bnrnn.report.runs import Run
from bnrnn.report.tables import Table, comparison_table, overview, paper_table


@dataclass(frozen=True)
class Drawn:
    """A picture as the page has it."""

    element: str
    name: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """What the page says of one experiment."""

    name: str
    anchor: str
    summary: str
    source: str
    obstacles: tuple[str, ...]
    drawn: tuple[Drawn, ...]
    paper: Table | None
    numbers: Table
    runs: tuple[Run, ...]


def write_report(runs: Sequence[Run], folder: Path, command: str, figures: Path | None = None) -> Path:
    """Writes ``index.html``, the pictures and the overview ``table.md``, and returns the page's path.

    Pictures of an earlier report in the folder that this one does not have are removed.

    Args:
        runs: what to report on.
        folder: where to; created where missing.
        command: how to make the page again.
        figures: folder of the analyses' pictures and numbers; with it the page has them, and the papers' claims.

    Raises:
        ValueError: there is no run to report on.
        OSError: the folder cannot be written.
    """
    if not runs:
        raise ValueError("there is no run to report on; train one with bnrnn run, or name run folders")
    folder.mkdir(parents=True, exist_ok=True)
    groups = group(runs)
    experiments: dict[str, list[Group]] = {}
    for found in groups:
        experiments.setdefault(found.subject, []).append(found)
    sections = [_section(name, found, folder) for name, found in experiments.items()]
    drawn = {f"{picture.name}.svg" for section in sections for picture in section.drawn}
    for old in folder.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    (folder / "table.md").write_text(overview(groups).markdown())
    compared = [found for found in groups if judged(found) is not None]
    others = overview(found for found in groups if found not in compared)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["place"] = lambda run: quote(os.path.relpath(run.path, folder).replace(os.sep, "/"))
    environment.filters["settings"] = lambda run: json.dumps(run.config["config"], indent=1)
    template = environment.from_string(files("bnrnn.report").joinpath("page.html.j2").read_text())
    page = folder / "index.html"
    page.write_text(
        template.render(
            overview=overview(compared),
            others=others,
            claims=claims(groups, figures) if figures else (),
            analyses=_analyses(figures) if figures else (),
            sections=sections,
            command=command,
            source=paper_source(),
            pace=_pace,
        )
    )
    return page


def _section(name: str, groups: Sequence[Group], folder: Path) -> Section:
    drawn = []
    own = [found for found in groups if not found.is_trial]
    for picture in pictures(_file_name(name), own) if own else ():
        element = svg(picture.figure, picture.name)
        (folder / f"{picture.name}.svg").write_text(element)
        drawn.append(Drawn(element, picture.name, picture.notes))
    facts = groups[0].first.config
    return Section(
        name=name,
        anchor=f"experiment-{_file_name(name)}",
        summary=facts.get("summary", ""),
        source=": ".join(filter(None, (facts.get("paper", ""), facts.get("target", "").replace("`", "")))),
        obstacles=_obstacles(groups),
        drawn=tuple(drawn),
        paper=paper_table(own),
        numbers=comparison_table(groups),
        runs=tuple(run for found in groups for run in found.runs),
    )


def _obstacles(groups: Sequence[Group]) -> tuple[str, ...]:
    """Why the papers' numbers do not stand beside some groups, a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for found in groups:
        if found.facts.obstacle is not None:
            reasons.setdefault(found.facts.obstacle, []).append(found.label)
    return tuple(
        f"No number of the papers stands beside {'these runs' if len(labels) == len(groups) else ', '.join(labels)}:"
        f" {reason}."
        for reason, labels in reasons.items()
    )


def _analyses(folder: Path) -> list[Drawn]:
    """The analyses' pictures, as they were drawn."""
    return [Drawn(path.read_text(encoding="utf-8"), path.stem, ()) for path in sorted(folder.glob("*.svg"))]


def _file_name(subject: str) -> str:
    return re.sub(r"[^\w.-]+", "-", subject)


def _pace(run: Run) -> str:
    """Seconds and speed of a finished run, empty of others."""
    seconds = (run.result or {}).get("seconds")
    return f"; {seconds:,.0f} s, {run.updates / seconds:.2f} updates/s" if seconds else ""
