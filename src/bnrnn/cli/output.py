"""What several commands show on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table


def print_evaluation(title: str, evaluation: dict[str, dict[str, dict[str, float]]]) -> None:
    """Every metric of every part, with batch and with population statistics, and over how many rows these were."""
    columns = [(split, kind) for split, kinds in evaluation.items() for kind in kinds]
    table = Table("", box=box.SIMPLE_HEAD, pad_edge=False)
    for split, kind in columns:
        rows = evaluation[split][kind].get("rows")
        table.add_column("\n".join([split, kind, f"{rows:,} rows" if rows else ""]), justify="right")
    metrics = dict.fromkeys(metric for split, kind in columns for metric in evaluation[split][kind])
    for metric in metrics:
        if metric != "rows":
            found = (evaluation[split][kind].get(metric) for split, kind in columns)
            table.add_row(metric, *("" if value is None else f"{value:.4f}" for value in found))
    print(title)
    Console().print(table)
