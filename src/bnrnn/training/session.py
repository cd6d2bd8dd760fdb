"""From an experiment's task and a folder to a trained run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from rich.console import Console

from bnrnn.training.checkpoint import RunError
from bnrnn.training.display import Display
from bnrnn.training.environment import environment
from bnrnn.training.folder import RunFolder
from bnrnn.training.loop import Options, train
from bnrnn.training.task import Task

Precision = Literal["32-true", "bf16-mixed", "64-true"]


@dataclass(frozen=True)
class Session:
    """How and where a run is computed."""

    run_dir: Path | None = None
    """The run's folder; by default runs/EXPERIMENT-CELL-NORM-seedN."""
    resume: bool = False
    """Go on from the folder's checkpoint, or start afresh where there is none."""
    max_updates: int | None = None
    """Stop here instead of at the experiment's full length; a later --resume can go on."""
    checkpoint_seconds: float = 60.0
    """Longest time between two checkpoints; one is saved at each epoch's end as well."""
    precision: Precision = "32-true"
    """Number format."""
    matmul: Literal["highest", "high", "medium"] = "highest"
    """Least accuracy of 32-bit products, as torch.set_float32_matmul_precision has it. On CPUs without bfloat16
    matrix units "medium" still computes them in 32 bits, by oneDNN instead of MKL, which can be twice as fast."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    threads: int | None = None
    """CPU threads; by default torch's choice."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder as well."""
    quiet: bool = False
    """Show the final result only."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")

    @property
    def options(self) -> Options:
        return Options(self.max_updates, self.checkpoint_seconds)


def run(
    described: dict[str, Any], build: Callable[[], Task], session: Session, folder: RunFolder, command: str
) -> dict[str, Any]:
    """Trains a task in a folder and returns the result.

    Args:
        described: what ``config.json`` says of the run.
        build: makes the task; called when the folder is known to be usable.
        session: how to compute.
        folder: where.
        command: the command line, for the record.

    Raises:
        RunError: the folder or its checkpoint does not fit.
        bnrnn.training.DivergenceError, bnrnn.training.InterruptionError: see :func:`bnrnn.training.train`.
    """
    options = session.options
    config = {**described, "precision": session.precision, "matmul": session.matmul}
    folder.open(config, session.resume)
    try:
        torch.set_float32_matmul_precision(session.matmul)
        if session.threads is not None:
            torch.set_num_threads(session.threads)
        fabric = Fabric(
            accelerator=session.device,
            devices=1,
            precision=session.precision,
            loggers=_loggers(folder) if session.tensorboard else [],
        )
        task = build()
        folder.begin(config)
        display = Display(Console(), f"{described['experiment']} {described['label']}", session.quiet)
        facts = {"command": command, "planned_updates": task.plan.updates, **_facts(session)}
        if (data := getattr(task, "facts", None)) is not None:
            facts["data"] = data
        folder.add_environment({**environment(fabric.device), **facts})
        return train(fabric, task, folder, options, display)
    finally:
        folder.close()


def _facts(session: Session) -> dict[str, Any]:
    kept = ("max_updates", "precision", "matmul")
    return {name: value for name, value in dataclasses.asdict(session).items() if name in kept}


def _loggers(folder: RunFolder) -> list[Any]:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    try:
        return [TensorBoardLogger(folder.path, name="tensorboard", version="")]
    except ModuleNotFoundError as error:
        raise RunError("--tensorboard needs the package tensorboard: pip install tensorboard") from error
