"""Which statistics the normalized layers of a model use, and how the population's are estimated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bnrnn.nn.norm.site import Normalization, Override
from bnrnn.nn.norm.specification import BatchNorm
from bnrnn.nn.norm.table import Table


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


def estimate_population_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    r"""Replace the population statistics by plain averages over one pass of the data.

    Each row becomes the mean of the batches' means and of their biased variances, over the batches that reached that
    time step: :math:`\frac{1}{K} \sum_k \mathrm{E}_k[x]` and :math:`\frac{1}{K} \sum_k \mathrm{Var}_k[x]`. The model
    runs in ``eval()`` (no dropout) with batch statistics and without gradients; all its layers are estimated at once.
    This is how Cooijmans et al. 2017 (section 3) obtain every test figure; running averages of training lag behind.

    Args:
        model: any module that holds bnrnn layers. Its training mode is restored.
        batches: what to call the model with: a tensor or PackedSequence, a tuple or list of arguments, or a mapping of
            keywords.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: the model has no batch-normalized bnrnn layer, or ``batches`` is empty. On any error, also one
            inside the model, the statistics stay as they were.
    """
    sites = _sites(model)
    if not sites:
        raise ValueError("model: it has no batch-normalized bnrnn layer, so there are no statistics to estimate")
    before = [Table(site.mean.clone(), site.var.clone(), site.count.clone()) for site in sites]
    modes = {module: module.training for module in model.modules()}
    done = False
    try:
        for site in sites:
            site.reset_statistics()
        model.eval()
        with torch.no_grad(), _overridden(sites, "estimate"):
            for batch in batches:
                _call(model, batch)
                done = True
        if not done:
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
