"""Figures as files, with the numbers behind them, and as elements of a page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

SIZE = (4.7, 3.0)
"""Inches, without the legend: at a phone's width and at half a window's the letters can be read."""


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG or SVG, by the end of the file's name; makes the folder where missing.

    Raises:
        ValueError: another end.
        OSError: the file cannot be written.
    """
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"out must end in .png or .svg, got {path}")
    if path.suffix == ".svg":
        content = svg(figure, path.stem).encode()
    else:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
        content = stream.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_figure(path: Path, figure: Figure, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Writes a picture as :func:`save` does, and its numbers as CSV of the same name.

    Args:
        path: of the picture.
        figure: the picture.
        head, rows: the numbers, a row each; None is an empty cell.

    Returns:
        The path of the CSV file.

    Raises:
        ValueError: an ending other than .png and .svg.
    """
    save(figure, path)
    numbers = path.with_suffix(".csv")
    with numbers.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([f"{cell:.8g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return numbers


def svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element whose letters are text, the same bytes each time.

    Args:
        figure: what to draw.
        name: of no other figure on the page; makes the element's ids its own.
    """
    stream = io.StringIO()
    silent = {"Creator": None, "Date": None, "Format": None, "Type": None}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata=silent)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # ids that nothing refers to, and that every figure has
    text = re.sub(r'(<g) id="[\w.]+_\d+"', r"\1", text)
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", text)
