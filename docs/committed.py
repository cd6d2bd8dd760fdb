"""Directives that put what our committed records say into a page when it is built."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bnrnn.report.claims import claims
from bnrnn.report.groups import Group, group
from bnrnn.report.runs import find_runs
from bnrnn.report.tables import Table, overview

RECORDS = Path(__file__).parents[1] / "records"


@cache
def groups() -> tuple[Group, ...]:
    return tuple(group(find_runs([RECORDS])))


def without_empty_columns(table: Table) -> Table:
    used = [i for i in range(len(table.head)) if any(row[i] for row in table.rows)]
    return Table([table.head[i] for i in used], [[row[i] for i in used] for row in table.rows], table.words)


class FromRecords(SphinxDirective):
    """Markdown that a subclass makes of the records, as if it stood in the page."""

    def run(self) -> list[nodes.Node]:
        for path in sorted(RECORDS.glob("*/config.json")):
            self.env.note_dependency(str(path))
        node = nodes.container()
        self.state.nested_parse(StringList(list(self.markdown()), str(RECORDS)), self.content_offset, node)
        return node.children

    def markdown(self) -> Iterable[str]:
        raise NotImplementedError


class Results(FromRecords):
    """``{results} EXPERIMENT...``: the rows of the overview and the pictures of these experiments."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"no-pictures": directives.flag}

    def markdown(self) -> Iterable[str]:
        names = self.arguments[0].split()
        own = [found for found in groups() if found.experiment in names and not found.is_trial]
        if not own:
            yield "No run of it is recorded yet."
            return
        yield from without_empty_columns(overview(own)).markdown().splitlines()
        if "no-pictures" in self.options:
            return
        for subject in dict.fromkeys(found.subject for found in own):
            slug = subject.replace(": ", "-").replace(" ", "-")
            for picture in sorted({*RECORDS.glob(f"report/{slug}.svg"), *RECORDS.glob(f"report/{slug}-*.svg")}):
                if picture.stem.removeprefix(slug) in ("", "-training", "-rows", "-lengths"):
                    yield ""
                    yield f"![{picture.stem}](/../records/report/{picture.name})"


class Drawn(FromRecords):
    """``{drawn} FIGURE``: the picture of one of the analyses, where the records have it."""

    required_arguments = 1

    def markdown(self) -> Iterable[str]:
        picture = RECORDS / f"figures/{self.arguments[0]}.svg"
        found = picture.exists()
        yield f"![{picture.stem}](/../records/figures/{picture.name})" if found else "Not drawn from records yet."


class Claims(FromRecords):
    """``{claims}``: the papers' claims, by which rule each is judged, and what the records say."""

    def markdown(self) -> Iterable[str]:
        for claim in claims(groups(), RECORDS / "figures"):
            yield from (f"**{claim.statement}** ({claim.paper}): *{claim.verdict}*", "")
            yield from (f"- Rule: {claim.rule}", f"- Records: {claim.evidence}", "")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("results", Results)
    app.add_directive("drawn", Drawn)
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True}
