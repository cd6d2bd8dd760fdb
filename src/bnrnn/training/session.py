"""From an experiment's task and a folder to a trained run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from rich.console import Console

import bnrnn
from bnrnn.training import checkpoint, launch
from bnrnn.training.checkpoint import RunError
from bnrnn.training.device import Device, Precision, check_device, check_devices, fabric_on
from bnrnn.training.display import Display
from bnrnn.training.environment import environment
from bnrnn.training.folder import RunFolder, Upgrade
from bnrnn.training.loop import Options, train
from bnrnn.training.task import Task


@dataclass(frozen=True)
class Session:
    """How and where a run is computed.

    Raises:
        ValueError: an option out of its range.
        RunError: a device that this machine does not have.
    """

    run_dir: Path | None = None
    """The run's folder; by default runs/EXPERIMENT-CELL-NORM-seedN."""
    resume: bool = False
    """Go on from the folder's checkpoint, or start afresh where there is none. Options that touch no training may be
    others than at the start: the best model so far is then forgotten."""
    config: Path | None = None
    """TOML file with options, as a run folder's config.toml; the command line's own come first."""
    init_from: Path | None = None
    """Run folder whose selected model a new run starts from, instead of from random parameters."""
    dry_run: bool = False
    """Read the data, build the model and check everything, then say what would be done instead of doing it."""
    max_updates: int | None = None
    """Stop here instead of at the experiment's full length; a later --resume can go on."""
    checkpoint_seconds: float = 60.0
    """Longest time between two checkpoints; one is saved at each epoch's end as well."""
    precision: Precision = "32-true"
    """Number format."""
    matmul: Literal["highest", "high", "medium"] = "highest"
    """Least accuracy of 32-bit products, as torch.set_float32_matmul_precision has it. On CPUs without bfloat16
    matrix units "medium" still computes them in 32 bits, by oneDNN instead of MKL, which can be twice as fast."""
    device: Device = "auto"
    """Where to compute."""
    devices: int = 1
    """Processes, each with its share of every batch's rows: on CPUs as many as wanted, else one for each device."""
    nodes: int = 1
    """Machines with so many processes each. The command is started on each, with MASTER_ADDR and MASTER_PORT, the first
    one's address and a free port of it, and NODE_RANK, its number from 0, in the environment."""
    synchronize: bool = True
    """Take batch statistics over the rows of all processes, so that a run is that of one process."""
    threads: int | None = None
    """CPU threads of a process; by default torch's choice, for several processes their part of the cores."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder as well."""
    csv: bool = False
    """Write the metrics as CSV into the run folder as well."""
    wandb: bool = False
    """Send the metrics to Weights & Biases as well, into the project that WANDB_PROJECT names, else bnrnn."""
    quiet: bool = False
    """Show the final result only."""

    def __post_init__(self) -> None:
        most = max(MOST_THREADS, os.cpu_count() or 1)
        if self.threads is not None and not 1 <= self.threads <= most:
            least_or_most = "least 1" if self.threads < 1 else f"most {most:,}"
            raise ValueError(f"threads must be at {least_or_most}, got {self.threads:,}")
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_device(self.device)
        check_devices(self.device, self.devices)
        _ = self.options  # checks them

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.devices * self.nodes

    @property
    def options(self) -> Options:
        return Options(self.max_updates, self.checkpoint_seconds)


MOST_THREADS = 256
"""More CPU threads than this, and than there are cores, end some processes instead of helping."""


def run(
    described: dict[str, Any],
    build: Callable[[], Task],
    session: Session,
    folder: RunFolder,
    command: str,
    upgrade: Upgrade = dict,
) -> dict[str, Any]:
    """Trains a task in a folder and returns the result.

    Args:
        described: what ``config.json`` says of the run.
        build: makes the task; called when the folder is known to be usable. For several processes it has to be one that
            can be pickled.
        session: how to compute.
        folder: where.
        command: the command line, for the record.
        upgrade: brings the ``config.json`` of an earlier version to this one's.

    Raises:
        RunError: the folder, its checkpoint or the data do not fit.
        bnrnn.training.DivergenceError, bnrnn.training.InterruptionError: see :func:`bnrnn.training.train`.
    """
    config = _config(described, session)
    leads = session.nodes == 1 or launch.node() == 0
    changed = folder.open(config, session.resume, upgrade) if leads else {}
    try:
        work = partial(_train, described, build, session, folder, command, changed)
        return work() if session.processes == 1 else launch.launch(work, session.devices, session.nodes)
    finally:
        folder.close()


def _train(
    described: dict[str, Any],
    build: Callable[[], Task],
    session: Session,
    folder: RunFolder,
    command: str,
    changed: dict[str, list[Any]],
) -> dict[str, Any]:
    """What :func:`run` does in an open folder; one of several processes if there are several."""
    config, together = _config(described, session), session.processes > 1
    torch.set_float32_matmul_precision(session.matmul)
    if session.threads is not None:
        torch.set_num_threads(session.threads)
    elif together:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // session.devices))

    leads = not together or launch.leads()

    def fabric_here() -> Fabric:
        loggers = _loggers(folder, session, described) if leads else []
        return fabric_on(session.device, session.precision, loggers, session.devices, session.nodes)

    fabric = fabric_here() if together else None
    with nullcontext() if fabric is None else fabric.rank_zero_first(local=True):  # the data may have to be fetched
        task = build()
    if together and session.synchronize:
        bnrnn.synchronize(task.model)
    if leads:
        folder.check_sources(task.sources)
        if (start := _start(folder, session, task)) is not None:
            config["init_from"] = start
    fabric = fabric or fabric_here()
    if leads:
        if changed:
            folder.forget_best()
        folder.begin(config, task.sources, bool(changed))
        facts = {"command": command, "planned_updates": task.plan.updates, **_facts(session)}
        if (data := getattr(task, "facts", None)) is not None:
            facts["data"] = data
        folder.add_environment({**environment(fabric.device), **facts, **({"changed": changed} if changed else {})})
    display = Display(Console(quiet=not leads), f"{described['experiment']} {described['label']}", session.quiet)
    return train(fabric, task, folder, session.options, display)


def rehearse(
    described: dict[str, Any], build: Callable[[], Task], session: Session, folder: RunFolder, upgrade: Upgrade = dict
) -> dict[str, Any]:
    """Checks all that :func:`run` checks, and returns what it would do; the folder is left as it is.

    Raises:
        RunError: see :func:`run`.
    """
    changed = folder.check(_config(described, session), session.resume, upgrade)
    task = build()
    folder.check_sources(task.sources)
    _start(folder, session, task)
    saved = folder.saved()
    first = checkpoint.load(saved[0])[1]["update"] if saved else 0
    plan, parameters = task.plan, [p for p in task.model.parameters() if p.requires_grad]
    return {
        "run folder": str(folder.path),
        **({"processes": f"{session.processes:,}"} if session.processes > 1 else {}),
        "updates": f"{first:,} to {min(plan.updates, session.max_updates or plan.updates):,} of {plan.updates:,}",
        "updates in the first epoch": f"{task.epoch_length(0):,}",
        "parameters": f"{sum(p.numel() for p in parameters):,}",
        "learning rate at first": f"{task.learning_rate(0, 0):g}",
        "statistics over": ", ".join(
            f"{rows:,} rows ({kind})" for kind in ("batch", "population") if (rows := task.rows("valid", kind))
        )
        or "none",
        **({"changed": ", ".join(f"{name}: {a} to {b}" for name, (a, b) in changed.items())} if changed else {}),
    }


def _start(folder: RunFolder, session: Session, task: Task) -> dict[str, Any] | None:
    """Gives the model of a run that is to start from another run's weights these, and says whose they are."""
    held = folder.read_config().get("init_from") if folder.config.exists() else None
    if session.init_from is None:
        if held is not None and not folder.saved():
            raise RunError(f"{folder.path} has no checkpoint yet, and was to start from {held['run']}: name it again")
        return held
    if not folder.saved():
        return start_from(session.init_from, task)
    if held is None or held["run"] != session.init_from.resolve().name:
        started = "from random weights" if held is None else f"from {held['run']}"
        raise RunError(f"the run in {folder.path} started {started}; name another folder with --run-dir")
    return held


def start_from(path: Path, task: Task) -> dict[str, Any]:
    """Gives a task's model the parameters of a run's selected model, and says whose they are.

    Raises:
        RunError: the run has no checkpoint, or its model is another one.
    """
    folder = RunFolder(path)
    described = folder.read_config()
    if not folder.checkpoint.exists():
        raise RunError(f"{path} has no checkpoint to start from; train it with bnrnn run")
    parameters, update = checkpoint.model_of(*checkpoint.load(folder.checkpoint), "best")
    try:
        task.model.load_state_dict(parameters)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RunError(f"the model of {path} does not fit this experiment's: {reason}") from error
    return {"experiment": described["experiment"], "run": path.resolve().name, "update": update}


def _facts(session: Session) -> dict[str, Any]:
    kept = ("max_updates", "precision", "matmul")
    facts = {name: value for name, value in dataclasses.asdict(session).items() if name in kept}
    return (
        facts
        if session.processes == 1
        else {**facts, "processes": session.processes, "synchronize": session.synchronize}
    )


def _config(described: dict[str, Any], session: Session) -> dict[str, Any]:
    return {**described, "precision": session.precision, "matmul": session.matmul}


def _loggers(folder: RunFolder, session: Session, described: dict[str, Any]) -> list[Logger]:
    if not (session.tensorboard or session.csv or session.wandb):
        return []
    from bnrnn.training.loggers import WandbLogger, csv_logger, tensorboard_logger

    name = f"{described['experiment']}-{described['label']}"
    return [
        *([tensorboard_logger(folder.path)] if session.tensorboard else []),
        *([csv_logger(folder.path)] if session.csv else []),
        *([WandbLogger(folder.path, name, described["config"])] if session.wandb else []),
    ]
