"""A run folder, opened: its experiment and config, its model and the data that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.experiment import Experiment
from bnrnn.experiments.registry import find
from bnrnn.experiments.trained import Trained
from bnrnn.training import RunError, RunFolder, checkpoint
from bnrnn.training.device import fabric_on
from bnrnn.training.evaluation import evaluate, with_rows

Which = Literal["best", "last", "final"]


@dataclass(frozen=True, repr=False)
class OpenedRun:
    """A run's model as a Python object.

    ``run(...)`` is what the model says to what people have, by its population statistics: a text, images, a passage and
    a question, features of utterances; that is ``run.program(*run.encode(...))`` without gradients.

    Args:
        experiment: of which the run is.
        config: its options.
        described: ``config.json``, brought to this version.
        folder: the run's.
        fabric: device and precision that the run's model is computed with.
        parameters: the model's state by name.
        update: after which the model had it.
    """

    experiment: Experiment
    config: Any
    described: dict[str, Any]
    folder: RunFolder
    fabric: Fabric
    parameters: dict[str, Tensor]
    update: int

    def __repr__(self) -> str:
        label = self.experiment.label(self.config)
        return f"<{self.experiment.name} {label} in {self.folder.path}, model of update {self.update:,}>"

    def __call__(self, *args: Any) -> Any:
        with torch.no_grad():
            return self.program(*(value.to(self.fabric.device) for value in self.encode(*args)))

    @cached_property
    def trained(self) -> Trained:
        """The model and its program, on the run's device and in ``eval()``; needs no data.

        Raises:
            RunError: the parameters do not fit the config.
        """
        with torch.random.fork_rng(devices=[]):  # the initial parameters, drawn in vain
            trained = self.experiment.trained(self.config, self.parameters)
        self.load(trained.model)
        trained.program.to(self.fabric.device).eval()
        return trained

    @property
    def model(self) -> Any:
        """The experiment's model, in ``eval()``."""
        return self.trained.model

    @property
    def program(self) -> nn.Module:
        """The model as one call without options, which can be exported; see its docstring."""
        return self.trained.program

    @property
    def encode(self) -> Callable[..., tuple[Tensor, ...]]:
        """Makes the program's arguments of what people have; see its docstring."""
        return self.trained.encode

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The symbols that indices stand for; None where there are none."""
        return self.trained.vocabulary

    @property
    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """The final evaluation: of each part, with each kind of statistics. Empty where the run has not come to it."""
        if not self.folder.result.exists():
            return {}
        return self.folder.read_json(self.folder.result, dict)["evaluation"]

    @cached_property
    def task(self) -> Any:
        """The experiment's task with the run's model, on its device and in evaluation; reads the data when first asked.

        Raises:
            RunError: the parameters do not fit the config.
            DataError, ValueError: the data are not there, or are other data.
        """
        task = self.experiment.build(self.config)
        self.folder.check_sources(task.sources)
        self.load(task.model)
        return task

    def load(self, model: nn.Module) -> None:
        """Puts the run's parameters into a model of its config, on the run's device and in ``eval()``.

        Raises:
            RunError: they do not fit.
        """
        self.fabric.setup_module(model)  # first: it gives the model the parameters' precision
        model.eval()
        try:
            model.load_state_dict(self.parameters)
        except RuntimeError as error:
            raise RunError(f"{self.folder.path} does not fit its config: {' '.join(str(error).split())}") from error


def open_run(path: Path, which: Which = "best", device: str = "auto") -> OpenedRun:
    """Opens the folder of a run, finished or still at work.

    Args:
        path: the folder.
        which: ``"best"``: the selected model so far; ``"last"``: the one the run has come to; ``"final"``: the selected
            one with the population statistics of the final evaluation, where the run has come to that, else as
            ``"best"``.
        device: where to compute, as Fabric calls it.

    Raises:
        RunError: it is no run folder, of no experiment of this version, or has no checkpoint yet.
    """
    folder = RunFolder(path)
    held = folder.read_config()
    experiment = find(held["experiment"])
    config, described = experiment.restore(held), experiment.upgrade(held)
    fabric = fabric_on(device, described["precision"])
    if which == "final" and folder.model.exists():
        parameters, facts = checkpoint.load(folder.model)
        return OpenedRun(experiment, config, described, folder, fabric, parameters, facts["update"])
    if not folder.checkpoint.exists():
        raise RunError(f"{path} has no checkpoint yet; train it with bnrnn run")
    kind = "last" if which == "last" else "best"
    parameters, update = checkpoint.model_of(*checkpoint.load(folder.checkpoint), kind)
    return OpenedRun(experiment, config, described, folder, fabric, parameters, update)


def load_run(path: str | Path, which: Which = "final", device: str = "cpu") -> OpenedRun:
    """A trained run as a Python object: its model in ``eval()``, vocabulary or preprocessing, config and metrics.

    The data that it was trained on are not needed. Also to be had as ``bnrnn.load_run``.

    Args:
        path: run folder.
        which, device: as in :func:`open_run`.

    Raises:
        RunError: see :func:`open_run`; the parameters do not fit the config.
    """
    run = open_run(Path(path), which, device)
    _ = run.trained
    return run


def evaluate_run(
    path: Path, which: Literal["best", "last"] = "best", device: str = "auto"
) -> tuple[OpenedRun, dict[str, Any]]:
    """Evaluates a run's model on the parts that its plan judges, with both kinds of statistics.

    The run and the numbers are returned; the numbers are also written to ``evaluation.json`` in the folder.

    Raises:
        RunError: see :func:`open_run`.
    """
    run = open_run(path, which, device)
    with run.fabric.autocast():
        found = evaluate(run.task, run.task.model, run.task.plan.parts, ["batch", "population"], run.fabric.device)
    record = {"model": which, "update": run.update, "evaluation": with_rows(run.task, found)}
    run.folder.write_json(path / "evaluation.json", record)
    return run, record
