"""The training loop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bnrnn.training import checkpoint, processes
from bnrnn.training.checkpoint import RunError
from bnrnn.training.display import Display
from bnrnn.training.evaluation import (
    evaluate,
    evaluate_models,
    statistics_rows,
    with_population_statistics,
    with_rows,
)
from bnrnn.training.folder import RunFolder
from bnrnn.training.metrics import MetricsLog, Window
from bnrnn.training.optimizers import clip_gradients
from bnrnn.training.seeding import Purpose, seed_of
from bnrnn.training.task import Carry, Metrics, Statistics, Task


class DivergenceError(RuntimeError):
    """The loss or a gradient is no longer finite; the message is the diagnosis."""


class InterruptionError(Exception):
    """The run was asked to stop and has saved its checkpoint."""


@dataclass(frozen=True)
class Options:
    """What may differ between the starts of one run without changing its numbers.

    Args:
        max_updates: stop here instead of at the experiment's full length.
        checkpoint_seconds: longest time between two checkpoints, also within an epoch.
    """

    max_updates: int | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.max_updates is not None and self.max_updates < 1:
            raise ValueError(f"max_updates must be at least 1, got {self.max_updates}")
        if not self.checkpoint_seconds > 0:
            raise ValueError(f"checkpoint_seconds must be greater than 0, got {self.checkpoint_seconds}")


@dataclass
class Position:
    """Where a run is: everything but its tensors, as JSON.

    Args:
        update: updates done.
        epoch, position: the next batch.
        metrics_bytes: length of ``metrics.jsonl``.
        seconds: time spent in training and evaluation so far.
        window: training metrics since the last logged row.
        waited: evaluations since the best trained model's.
        population: update of the last evaluation with population statistics.
        best: update, selection value and validation metrics of the best trained model; None before its evaluation.
    """

    update: int = 0
    epoch: int = 0
    position: int = 0
    metrics_bytes: int = 0
    seconds: float = 0.0
    window: dict[str, Any] = field(default_factory=lambda: {"sums": {}, "count": 0})
    best: dict[str, Any] | None = None
    waited: int = 0
    population: int = 0


def train(fabric: Fabric, task: Task, folder: RunFolder, options: Options, display: Display) -> dict[str, Any]:
    """Trains until the plan's end or ``max_updates``, from the folder's checkpoint where there is one.

    A run that is killed at any moment and started again has bit for bit the parameters and metrics of an undisturbed
    one, on the same machine with the same number of threads: batches, orders and random numbers are functions of
    the seed and the place in the run, and a checkpoint is replaced in one step.

    Returns:
        The result, as ``result.json`` has it.

    Raises:
        DivergenceError: loss or gradient not finite; the last checkpoint stays as it is.
        InterruptionError: SIGINT, SIGTERM or SIGHUP came; a checkpoint was saved.
        RunError: the checkpoint does not fit, the metrics are not those it was saved with, or a file cannot be written.
    """
    return _Run(fabric, task, folder, options, display).complete()


class _Run:
    def __init__(self, fabric: Fabric, task: Task, folder: RunFolder, options: Options, display: Display) -> None:
        self.fabric, self.task, self.folder, self.options, self.display = fabric, task, folder, options, display
        self.plan = task.plan
        self.end = min(self.plan.updates, options.max_updates or self.plan.updates)
        self.model = task.model
        self.wrapped, self.optimizer = fabric.setup(task.model, task.optimizer())
        self.at = Position()
        self.best: dict[str, Tensor] = {}
        self.carry: Carry = {}
        self.stopping = False
        self.leads = processes.rank() == 0
        resumed = fabric.broadcast(bool(folder.saved()))
        if resumed:
            self._restore()
        else:
            processes.share_parameters(self.model)
            self._start(0)
        self.window = Window(**self.at.window)
        self.log = MetricsLog(folder.metrics, self.at.metrics_bytes) if self.leads else None
        if not resumed:  # from here on rows without a checkpoint are those of a run that has lost it
            self._save()

    def complete(self) -> dict[str, Any]:
        status, plan = "failed", self.plan
        try:
            with (
                nullcontext() if self.log is None else closing(self.log),
                _stop_on_signals(self),
                self.display.running(self.at.update, self.end, plan.headline),
            ):
                self._train()
                result = self._finish()
            status = "success"
            return result
        finally:
            for logger in self.fabric.loggers:
                logger.finalize(status)

    def _train(self) -> None:
        started = time.perf_counter() - self.at.seconds
        saved = time.perf_counter()
        if self.at.update == 0:
            self._evaluate()
        while self.at.update < self.end and not self._out_of_patience():
            self._update()
            self.at.seconds = time.perf_counter() - started
            epoch_ended = self.at.position == 0
            every = self.plan.evaluate_every
            if self.at.update % every == 0 if every else epoch_ended:
                self._evaluate()
            late = time.perf_counter() - saved > self.options.checkpoint_seconds
            late, self.stopping = processes.anywhere(late, self.stopping)
            if self.stopping or late or epoch_ended or self.at.update == self.end or self._out_of_patience():
                self._save()
                saved = time.perf_counter()
            if self.stopping:
                raise InterruptionError(f"stopped at update {self.at.update:,}")

    def _out_of_patience(self) -> bool:
        return 0 < self.plan.patience <= self.at.waited

    def _update(self) -> None:
        at, task = self.at, self.task
        whole = task.batch(at.epoch, at.position)
        batch = self.fabric.to_device(processes.cut(whole, task.batch_first))
        place = (at.update,) if self.leads else (at.update, processes.rank())
        torch.manual_seed(seed_of(task.seed, Purpose.UPDATE, *place))
        rate = task.learning_rate(at.epoch, at.position)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.wrapped.train()
        step = task.loss(self.wrapped, batch, self.carry)
        if step.carry and (rows := processes.rows_of(whole, task.batch_first)) < processes.world():
            raise RunError(f"--devices: there are more processes than the {rows} rows whose state is carried on")
        self.optimizer.zero_grad()
        self.fabric.backward(processes.scaled(step.loss, step.count))
        processes.sum_gradients(self.model)
        norm = clip_gradients(self.model.parameters(), self.plan.clip, self.plan.clip_rule)
        (diverged,) = processes.anywhere(not (torch.isfinite(step.loss) and torch.isfinite(norm)))
        if diverged:
            diagnosis = _diagnosis(self.model, at, rate, step.loss, norm)
            if self.leads:
                self.folder.write_json(self.folder.divergence, {"update": at.update, "diagnosis": diagnosis})
            raise DivergenceError(diagnosis)
        self.optimizer.step()

        self.carry = step.carry
        self.window.add({**step.metrics, "gradient_norm": norm})
        at.update += 1
        at.position += 1
        if at.position == task.epoch_length(at.epoch):
            at.epoch, at.position = at.epoch + 1, 0
            self._start(at.epoch)
        self.display.step(at.update, self.window.means())
        if at.update % self.plan.log_every == 0:
            self._record("train", at.update, {**self.window.means(), "learning_rate": rate})
            self.window = Window()

    def _start(self, epoch: int) -> None:
        self.carry = self.fabric.to_device(processes.cut(self.task.start(epoch)))

    def _evaluate(self) -> None:
        at, plan = self.at, self.plan
        every = plan.population_every
        due = bool(every) and at.update // every > at.population // every
        kinds: list[Statistics] = ["batch", "population"] if due else ["batch"]
        if plan.selection_statistics not in kinds:
            kinds.append(plan.selection_statistics)
        self.display.message("evaluating")
        with self.fabric.autocast():
            results = evaluate(self.task, self.model, ["valid"], kinds, self.fabric.device)["valid"]
        rows: dict[Statistics, int | None] = {kind: statistics_rows(self.task, "valid", kind) for kind in results}
        if "population" in results:
            at.population = at.update
        for kind, metrics in results.items():
            self._record("evaluation", at.update, metrics, {"split": "valid", "statistics": kind, "rows": rows[kind]})
        chosen = results[plan.selection_statistics]
        if at.update and (at.best is None or chosen[plan.selection] < at.best["value"]):
            at.best = {"update": at.update, "value": chosen[plan.selection], "valid": results}
            at.waited = 0
            self.best = checkpoint.clone(self.model.state_dict())
        elif at.update:
            at.waited += 1
        self.display.evaluated(at.update, at.epoch, plan.headline, results, rows)

    def _record(self, kind: str, update: int, metrics: Metrics, facts: dict[str, Any] | None = None) -> None:
        if self.log is None:
            return
        facts = facts or {}
        row = {"kind": kind, "update": update, "epoch": self.at.epoch, **facts, **metrics}
        self.log.write({**row, "seconds": round(self.at.seconds, 3)})
        place = [kind, *(facts[name] for name in ("split", "statistics") if name in facts)]
        for logger in self.fabric.loggers:
            logger.log_metrics({"/".join([*place, name]): value for name, value in metrics.items()}, update)

    def _finish(self) -> dict[str, Any]:
        """The final evaluation, of the selected model; of the last one if none was evaluated since training began."""
        self.display.message("final evaluation")
        model, plan = self.model, self.plan
        if self.at.best is not None:
            model.load_state_dict(self.best)
        with self.fabric.autocast():
            judged = with_population_statistics(self.task, model, self.fabric.device)
            results = evaluate_models(self.task, {"batch": model, "population": judged}, plan.parts)
        value = results["valid"][plan.selection_statistics][plan.selection]
        selected = self.at.best or {"update": self.at.update, "value": value}
        facts = {"update": selected["update"], "planned": plan.updates}
        if self.leads:
            checkpoint.save(self.folder.model, judged.state_dict(), facts)
        stopped_early = self._out_of_patience() and self.at.update < plan.updates
        result = {
            "status": "complete" if stopped_early or self.at.update >= plan.updates else "partial",
            "stopped_early": stopped_early,
            "updates": self.at.update,
            "planned_updates": plan.updates,
            "epochs": self.at.epoch,
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "seconds": round(self.at.seconds, 1),
            "selected": {"update": selected["update"], "by": plan.selection, "value": selected["value"]},
            "headline": plan.headline,
            "evaluation": with_rows(self.task, results),
        }
        if self.leads:
            self.folder.write_json(self.folder.result, result)
        return result

    def _save(self) -> None:
        carry = processes.joined(self.carry)
        if self.log is None:
            return
        self.at.metrics_bytes = self.log.sync()
        self.at.window = {"sums": self.window.sums, "count": self.window.count}
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.prefixed("carry", carry),
            **checkpoint.prefixed("best", self.best),
        }
        checkpoint.save(self.folder.checkpoint, tensors, asdict(self.at), self.folder.previous)
        for logger in self.fabric.loggers:
            logger.save()

    def _restore(self) -> None:
        found: Any = self.fabric.broadcast(self.folder.load_checkpoint() if self.leads else None)
        tensors, facts, warning = found
        if warning and self.leads:
            print(f"bnrnn: {warning}", file=sys.stderr)
        try:
            # an earlier version did not keep when the last evaluation with population statistics was
            self.at = Position(**{"population": facts["update"], **facts})
            self.model.load_state_dict(checkpoint.below("model", tensors))
            checkpoint.load_optimizer(self.optimizer, checkpoint.below("optimizer", tensors))
        except (TypeError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"{self.folder.checkpoint} does not fit this experiment ({reason}); name another --run-dir"
            ) from error
        self.carry = self.fabric.to_device(processes.cut(checkpoint.below("carry", tensors)))
        self.best = self.fabric.to_device(checkpoint.below("best", tensors))


@contextmanager
def _stop_on_signals(run: _Run) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP asks the run to save and stop after this update, a second one ends it.

    A SIGHUP that is ignored, as below nohup, stays ignored. One of several processes gets a SIGTERM, whatever came to
    the one that has started them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if run.stopping:
            raise KeyboardInterrupt
        run.stopping = True
        if number in hangup:  # there is no terminal any more
            run.display.silence()
        run.display.message("stopping after this update; once more to stop at once")

    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    numbers = (signal.SIGINT, signal.SIGTERM, *hangup) if processes.world() == 1 else (signal.SIGTERM,)
    earlier = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _diagnosis(model: nn.Module, at: Position, rate: float, loss: Tensor, norm: Tensor) -> str:
    def broken(tensors: dict[str, Tensor]) -> str:
        names = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        return ", ".join(names) if names else "none"

    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    largest = max(model.named_parameters(), key=lambda item: item[1].detach().abs().max().item())
    return (
        f"training diverged at update {at.update + 1:,} (epoch {at.epoch}, batch {at.position}):"
        f" loss {loss.item():g}, gradient norm {norm.item():g}, learning rate {rate:g};"
        f" gradients not finite: {broken(gradients)}; parameters not finite: {broken(dict(model.named_parameters()))};"
        f" largest parameter {largest[0]} {largest[1].detach().abs().max().item():.3g}."
        " The parameters are those before this update. Try a lower learning rate, a smaller gamma,"
        " or noise on the initial state where a normalized input is constant over the batch"
    )
