"""Tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def evaluation_table(title: str, evaluation: dict[str, dict[str, dict[str, float]]]) -> Table:
    """Every metric of every part, with batch and with population statistics."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    columns = [(split, kind) for split, kinds in evaluation.items() for kind in kinds]
    for split, kind in columns:
        table.add_column(f"{split}\n{kind} statistics", justify="right")
    first: dict[str, Any] = evaluation[columns[0][0]][columns[0][1]]
    for metric in first:
        table.add_row(metric, *(f"{evaluation[split][kind][metric]:.4f}" for split, kind in columns))
    return table
