"""``bnrnn data``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "list, download, verify or prepare the data files"


@dataclass(frozen=True)
class Data:
    """Show, download or verify the experiments' data files. BNRNN_DATA names a folder that has them already.

    A corpus that is read into a cache first: bnrnn data prepare cnn --from cnn.tgz. A Kaldi data directory is looked
    through by bnrnn data check DIR.
    """

    action: tyro.conf.Positional[Literal["list", "get", "verify"]]
    """Show what is at hand; download what has a public address; read every file and compare its SHA-256."""
    dataset: tyro.conf.Positional[str | None] = None
    """One data set, as mnist; by default all."""


def run(arguments: list[str]) -> int:
    if arguments[:1] == ["prepare"]:
        from bnrnn.cli import prepare

        return prepare.run(arguments[1:])
    if arguments[:1] == ["check"]:
        from bnrnn.cli import check

        return check.run(arguments[1:])
    chosen = parse(Data, arguments, "bnrnn data")
    from bnrnn.data import registry

    actions = {"list": registry.status, "get": registry.get, "verify": registry.verify}
    rows = actions[chosen.action](chosen.dataset)
    for row in rows:
        print(f"{row.state:<9} {row.file.name:<36} {row.file.size:>11,} bytes  {row.file.licence}")
        print(f"{'':<10}{row.detail}")
    wrong = ["damaged", "missing"] if chosen.action == "verify" else ["damaged"]
    found = {state: [row.file.name for row in rows if row.state == state] for state in wrong}
    faults = [f"{state}: {', '.join(names)}" for state, names in found.items() if names]
    if faults:
        raise UsageError(
            f"{'; '.join(faults)}; delete what is damaged and run bnrnn data get, or put good copies there"
        )
    return 0
