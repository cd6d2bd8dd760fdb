"""Evaluation with the batch's own statistics and with population statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import nn

import bnrnn
from bnrnn.nn.norm import Normalization
from bnrnn.training import processes
from bnrnn.training.seeding import Purpose, seed_of
from bnrnn.training.task import Metrics, Split, Statistics, Task


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether any layer is batch-normalized, so that the two kinds of statistics differ."""
    return any(isinstance(m, Normalization) and isinstance(m.spec, bnrnn.BatchNorm) for m in model.modules())


def evaluate(
    task: Task, model: nn.Module, splits: Iterable[Split], statistics: Iterable[Statistics], device: torch.device
) -> dict[Split, dict[Statistics, Metrics]]:
    """Metrics of the parts with each kind of statistics.

    Population statistics are estimated anew, over the training part and with the parameters as they are, in a
    copy: the model itself is left as it was.
    """
    judges: dict[Statistics, nn.Module] = {
        kind: with_population_statistics(task, model, device) if kind == "population" else model for kind in statistics
    }
    return evaluate_models(task, judges, splits)


def evaluate_models(
    task: Task, models: Mapping[Statistics, nn.Module], splits: Iterable[Split]
) -> dict[Split, dict[Statistics, Metrics]]:
    """Metrics of the parts by a model for each kind of statistics, whose population statistics are at hand.

    A model without batch normalization has one set of numbers, which then stands for every kind.
    """
    results: dict[Split, dict[Statistics, Metrics]] = {split: {} for split in splits}
    for split, found in results.items():
        for kind, model in models.items():
            if found and not has_batch_statistics(model):
                found[kind] = next(iter(found.values()))
                continue
            training = model.training
            with evaluate_statistics(model, kind):
                torch.manual_seed(seed_of(task.seed, Purpose.EVALUATION))
                found[kind] = task.evaluate(model, split, kind)
            model.train(training)
    return results


def with_rows(
    task: Task, results: Mapping[Split, Mapping[Statistics, Metrics]]
) -> dict[Split, dict[Statistics, dict[str, float]]]:
    """Metrics, and beside them as ``"rows"`` over how many rows the statistics were taken that they are of."""
    return {
        split: {
            kind: {**metrics, **({} if (rows := statistics_rows(task, split, kind)) is None else {"rows": rows})}
            for kind, metrics in kinds.items()
        }
        for split, kinds in results.items()
    }


def statistics_rows(task: Task, split: Split, statistics: Statistics) -> int | None:
    """As :meth:`Task.rows`; of a process's own rows where several do not take their statistics together."""
    rows = task.rows(split, statistics)
    sites = [m.spec for m in task.model.modules() if isinstance(m, Normalization)]
    alone = any(isinstance(spec, bnrnn.BatchNorm) and spec.process_group is None for spec in sites)
    return -(-rows // processes.world()) if rows is not None and alone else rows


def with_population_statistics(task: Task, model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the model whose population statistics are those of the training part."""
    judged = copy.deepcopy(model)
    if has_batch_statistics(judged):
        torch.manual_seed(seed_of(task.seed, Purpose.POPULATION))
        batches = task.population_batches()
        bnrnn.estimate_population_statistics(
            judged,
            (move_data_to_device(processes.cut(batch, task.batch_first), device) for batch in batches),
            None if processes.world() == 1 else "world",
        )
    return judged.eval()


@contextmanager
def evaluate_statistics(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Evaluation mode, without gradients, with the batch's own or with the population's statistics."""
    model.eval()
    with torch.no_grad():
        if statistics == "batch" and has_batch_statistics(model):
            with bnrnn.batch_statistics(model):
                yield
        else:
            yield
