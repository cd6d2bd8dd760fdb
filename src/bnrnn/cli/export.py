"""``bnrnn export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from bnrnn.cli.parsing import parse
from bnrnn.cli.usage import UsageError

SUMMARY = "write a run's model as an ONNX or a torch.export program"


@dataclass(frozen=True)
class Export:
    """Write a run's model, with its population statistics, as a program that needs neither the run nor its experiment.
    The file is opened and compared with the run before it is called done."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    onnx: Path | None = None
    """Write an ONNX model here."""
    torch: Path | None = None
    """Write a torch.export program (.pt2) here; it opens by torch.export.load after import bnrnn."""
    model: Literal["final", "best", "last"] = "final"
    """The selected model with the population statistics of the end; the best so far or the last one with the running
    averages of training."""


def run(arguments: list[str]) -> int:
    chosen = parse(Export, arguments, "bnrnn export")
    if chosen.onnx is None and chosen.torch is None:
        raise UsageError("bnrnn export needs --onnx FILE or --torch FILE")
    from bnrnn.experiments.exporting import export_onnx, export_torch
    from bnrnn.experiments.opened import load_run

    opened = load_run(chosen.run, chosen.model)
    print(f"inputs   {_named({name: [*axes.values()] for name, axes in opened.trained.inputs.items()})}")
    print(f"outputs  {', '.join(opened.trained.outputs)}")
    for file, write in ((chosen.onnx, export_onnx), (chosen.torch, export_torch)):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            print(f"{file}: largest difference to the run {write(opened, file):.1e}")
    return 0


def _named(inputs: dict[str, list[str]]) -> str:
    return ", ".join(f"{name} (free: {', '.join(dims)})" for name, dims in inputs.items())
