"""Which statistics the normalized layers of a model use, and how the population's are estimated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnrnn.nn.norm.groups import check_group, present
from bnrnn.nn.norm.merging import FAILED, exchange_counts, merge_tables
from bnrnn.nn.norm.site import Normalization, Override
from bnrnn.nn.norm.specification import BatchNorm
from bnrnn.nn.norm.table import Table

Model = TypeVar("Model", bound=nn.Module)


def _sites(model: nn.Module) -> list[Normalization]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return [m for m in model.modules() if isinstance(m, Normalization) and isinstance(m.spec, BatchNorm)]


@contextmanager
def _overridden(sites: list[Normalization], override: Override) -> Iterator[None]:
    for site in sites:
        site.enter(override)
    try:
        yield
    finally:
        for site in sites:
            site.leave(override)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within this context the model's layers normalize by each batch's own statistics, and no average changes.

    In ``eval()`` this is how both papers measure validation. A model without batch-normalized layers is left as it is.
    Contexts may overlap. A copy or pickle of the model made inside is outside of the context.

    Raises:
        TypeError: ``model`` is not a module.
    """
    with _overridden(_sites(model), "batch"):
        yield


def synchronize(model: Model, process_group: Any = None) -> Model:
    """Let a model's batch-normalized bnrnn layers take statistics over the valid rows of all processes together.

    It is to these layers what ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` is to torch.nn's, and as there a call
    without ``torch.distributed``, or in a group of one, is the plain computation. The model itself is changed: each
    site's ``spec`` gets the group, as if :class:`bnrnn.BatchNorm` had been given it.

    Args:
        model: any module that holds bnrnn layers.
        process_group: a ``torch.distributed.ProcessGroup`` that this process is in; None for the default group,
            whichever that is at a call.

    Returns:
        The model.

    Raises:
        TypeError: ``model`` is not a module, or ``process_group`` no process group.
    """
    for site in _sites(model):
        assert isinstance(site.spec, BatchNorm)
        site.spec = replace(site.spec, process_group="world" if process_group is None else process_group)
    return model


def estimate_population_statistics(model: nn.Module, batches: Iterable[Any], process_group: Any = None) -> None:
    r"""Replace the population statistics by plain averages over one pass of the data.

    Each row becomes the mean of the batches' means and of their biased variances, over the batches that reached that
    time step: :math:`\frac{1}{K} \sum_k \mathrm{E}_k[x]` and :math:`\frac{1}{K} \sum_k \mathrm{Var}_k[x]`. The model
    runs in ``eval()`` (no dropout) with batch statistics and without gradients; all its layers are estimated at once.
    This is how Cooijmans et al. 2017 (section 3) obtain every test figure; running averages of training lag behind.

    Args:
        model: any module that holds bnrnn layers. Its training mode is restored.
        batches: what to call the model with: a tensor or PackedSequence, a tuple or list of arguments, or a mapping of
            keywords.
        process_group: the processes over whose batches together the averages are taken, as for
            :class:`bnrnn.BatchNorm`; each brings batches of its own, as many as it has. None: each process takes its
            own averages. Sites that are synchronized (:func:`bnrnn.synchronize`) take the moments of each batch over
            all processes instead; then all must bring equally many.

    Raises:
        TypeError: ``model`` is not a module, or ``process_group`` no process group.
        ValueError: the model has no batch-normalized bnrnn layer, or ``batches`` is empty. On any error, also one
            inside the model, the statistics stay as they were.
        RuntimeError: another process of the group had an error.
    """
    check_group("process_group", process_group)
    sites = _sites(model)
    if not sites:
        raise ValueError("model: it has no batch-normalized bnrnn layer, so there are no statistics to estimate")
    before = [Table(site.mean.clone(), site.var.clone(), site.count.clone()) for site in sites]
    modes = {module: module.training for module in model.modules()}
    group, count = present(process_group), 0
    try:
        for site in sites:
            site.reset_statistics()
        model.eval()
        with torch.no_grad(), _overridden(sites, "estimate" if group is None else "merge"):
            try:
                for batch in batches:
                    _call(model, batch)
                    count += 1
            except Exception:
                if group is not None:
                    exchange_counts(FAILED, group, sites[0].count.device)
                raise
            if group is not None:
                count = sum(exchange_counts(count, group, sites[0].count.device))
                merge_tables([site for site in sites if site.process_group is None], group)
        if count == 0:
            raise ValueError("batches: it was empty; at least one batch is needed")
    except BaseException:
        for site, table in zip(sites, before, strict=True):
            site.restore(table)
        raise
    finally:
        for module, training in modes.items():
            module.training = training


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, (Tensor, PackedSequence)):
        model(batch)
    elif isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, (tuple, list)):
        model(*batch)
    else:
        raise TypeError(
            f"batches: each must be a tensor, a tuple or list of arguments or a mapping, got {type(batch).__name__}"
        )
