"""The numbers behind a picture, beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bnrnn.figures.curves import png


def write_figure(path: Path, figure: Figure, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Writes a picture (PNG, or SVG by the name's ending), and its numbers as CSV of the same name.

    Args:
        path: of the picture; its folder is made where missing.
        figure: the picture.
        head, rows: the numbers, a row each; None is an empty cell.

    Returns:
        The path of the CSV file.

    Raises:
        ValueError: an ending other than .png and .svg.
    """
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"out must end in .png or .svg, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(png(figure))
    else:
        figure.savefig(path, format="svg", metadata={"Date": None})
    numbers = path.with_suffix(".csv")
    with numbers.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
    return numbers
