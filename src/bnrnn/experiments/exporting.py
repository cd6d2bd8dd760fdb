"""A run's program in a file, and whether the file has the run's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from bnrnn.experiments.opened import OpenedRun
from bnrnn.training import RunError

ROWS = (3, 5)
"""Rows of the example that a program is traced with, and of another that it is tried on as well."""
TOLERANCE = 1e-4
"""Largest difference between a file's numbers and the run's, relative to 1 or to their size."""


def export_onnx(run: OpenedRun, file: Path) -> float:
    """Writes a run's program as an ONNX model, with the names of :class:`bnrnn.experiments.trained.Trained`.

    The file is opened in onnxruntime and compared with the run.

    Returns:
        The largest difference between its numbers and the run's.

    Raises:
        RunError: the file has other numbers than the run.
        OSError: the file cannot be written.
    """
    import onnxruntime

    from bnrnn.onnx import export

    trained = run.trained
    names = [*trained.inputs]
    export(
        run.program, file, _example(run, ROWS[0]), dynamic_shapes=_free(run), input_names=names,
        output_names=trained.outputs,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def program(*given: Tensor) -> list[Tensor]:
        feed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return _difference(run, file, program)


def export_torch(run: OpenedRun, file: Path) -> float:
    """Writes a run's program as :func:`torch.export.save` does; it opens after ``import bnrnn``.

    Returns:
        The largest difference between its numbers and the run's.

    Raises:
        RunError: the file has other numbers than the run.
        OSError: the file cannot be written.
    """
    with torch.no_grad():
        program = torch.export.export(run.program, _example(run, ROWS[0]), dynamic_shapes=_free(run))
    torch.export.save(program, file)
    return _difference(run, file, torch.export.load(file).module())


def _example(run: OpenedRun, rows: int) -> tuple[Tensor, ...]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tuple(value.to(run.fabric.device) for value in run.trained.example(rows))


def _free(run: OpenedRun) -> dict[str, dict[int, Any]]:
    dims: dict[str, Any] = {}
    return {
        name: {axis: dims.setdefault(dim, Dim(dim, min=2)) for axis, dim in axes.items()}
        for name, axes in run.trained.inputs.items()
    }


def _difference(run: OpenedRun, file: Path, program: Any) -> float:
    largest = 0.0
    with torch.no_grad():
        for rows in ROWS:
            given = _example(run, rows)
            found, expected = _several(program(*given)), _several(run.program(*given))
            for ours, wanted in zip(found, expected, strict=True):
                difference = (ours - wanted).abs() / wanted.abs().clamp(min=1)
                largest = max(largest, float(difference.max()))
    if not largest <= TOLERANCE:
        raise RunError(f"{file} was written, but its numbers differ from the run's by {largest:.1e}")
    return largest


def _several(results: Any) -> Sequence[Tensor]:
    return (results,) if isinstance(results, Tensor) else results
