"""Records: what is small of a run, kept beside the source."""

from __future__ import annotations

import shutil
from pathlib import Path

from bnrnn.experiments.registry import find
from bnrnn.training import RunError, RunFolder

LARGEST = 5_000_000  # bytes of a file


def record(path: Path, out: Path) -> Path:
    """Copies a run's metrics and every JSON file, and brings ``config.json`` to this version.

    What an earlier record of that name had goes, so that no two runs mix. Of a folder that lies in ``out`` already only
    ``config.json`` changes. Tensors stay where they are.

    Args:
        path: run folder, of this version or an earlier one.
        out: folder of all records.

    Returns:
        The record's folder, named as the run's; of a sweep's trial in a folder named as the sweep's.

    Raises:
        RunError: it is no run folder, of no experiment of this version, or a file is too large to be kept.
    """
    source = RunFolder(path)
    held = source.read_config()
    upgraded = find(held["experiment"]).upgrade(held)
    files = _kept(path)
    for file in files:
        if file.stat().st_size > LARGEST:
            raise RunError(
                f"{file} has {file.stat().st_size:,} bytes; a record holds what is small, {LARGEST:,} at most"
            )
    place = path.resolve()
    target = RunFolder(out / (place.relative_to(place.parents[1]) if "=" in place.name else place.name))
    if target.path.resolve() != path.resolve():
        target.path.mkdir(parents=True, exist_ok=True)
        for file in _kept(target.path):
            file.unlink()
        for file in files:
            shutil.copyfile(file, target.path / file.name)
    target.write_json(target.config, upgraded)
    return target.path


def _kept(folder: Path) -> list[Path]:
    """What of a folder belongs to a record."""
    return [file for file in sorted(folder.iterdir()) if file.suffix in (".json", ".jsonl")]
