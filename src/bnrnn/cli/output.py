"""What several commands show on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def print_evaluation(title: str, evaluation: dict[str, dict[str, dict[str, float]]]) -> None:
    """Every metric of every part, with batch and with population statistics."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    columns = [(split, kind) for split, kinds in evaluation.items() for kind in kinds]
    for split, kind in columns:
        table.add_column(f"{split}\n{kind} statistics", justify="right")
    metrics = dict.fromkeys(metric for split, kind in columns for metric in evaluation[split][kind])
    for metric in metrics:
        found = (evaluation[split][kind].get(metric) for split, kind in columns)
        table.add_row(metric, *("" if value is None else f"{value:.4f}" for value in found))
    Console().print(table)
