"""How a loss at the end of a sequence reaches back in time: Cooijmans et al. 2017, section 4, Figure 2a."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import bnrnn
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.experiments.pixels.model import PixelClassifier
from bnrnn.experiments.pixels.task import PixelTask
from bnrnn.experiments.registry import find
from bnrnn.training import RunError, RunFolder, checkpoint

GAMMAS = tuple(round(0.1 * tenths, 1) for tenths in range(1, 11))
Net = Literal["bn-rnn", "rnn", "bn-lstm", "lstm", "bn-gru", "gru"]
InitialState = Literal["noise", "mean-pixel", "learnt"]


@dataclass(frozen=True)
class Flow:
    r"""Norms of one net.

    Attributes:
        name: what was measured.
        gamma: initial gain of the normalization, None where there is none.
        norms: :math:`\|\partial L / \partial h_t\|_2`, the mean over the batch, for each time step.
    """

    name: str
    gamma: float | None
    norms: tuple[float, ...]


def gradient_norms(model: PixelClassifier, pixels: Tensor, labels: Tensor) -> tuple[float, ...]:
    r"""The norm over units of the loss's whole derivative with respect to the hidden state after each step.

    The loss is the mean cross-entropy of the batch, so an example's derivative carries a factor 1 / B. The mean over
    the batch is of the norms. Each step is a call of its own, with the batch's own statistics: so every :math:`h_t` is
    a node of the graph, and its derivative holds what comes back through all later steps. For an LSTM it is what comes
    back through :math:`h_t`; the cell is another path.

    Args:
        model: the net, in its own precision.
        pixels: ``(B, T)``, in the order in which they are shown.
        labels: ``(B,)``.

    Returns:
        T numbers, for the states after the first to the last step.
    """
    dtype = model.h0.dtype
    training = model.training
    model.eval()
    states: list[Tensor] = []
    try:
        with torch.enable_grad(), bnrnn.batch_statistics(model):
            state = model.initial_state(pixels.to(dtype))
            for step, column in enumerate(pixels.t().to(dtype)):
                _, state = model.rnn(column.view(1, -1, 1), state, start_step=step)
                states.append(state[0] if isinstance(state, tuple) else state)
            loss = F.cross_entropy(model.readout(states[-1][-1]), labels)
            gradients = torch.autograd.grad(loss, states)
    finally:
        model.train(training)
    return tuple(gradient[-1].norm(dim=1).mean().item() for gradient in gradients)


def at_initialization(
    net: Net = "bn-rnn",
    gammas: tuple[float, ...] = GAMMAS,
    *,
    units: int = 100,
    batch_size: int = 100,
    seed: int = 1,
    precision: Literal["float64", "float32"] = "float64",
    initial_state: InitialState = "noise",
    noise: float = 0.1,
    input_norm: float = 0.5,
    data: Literal["mnist", "digits"] = "mnist",
) -> list[Flow]:
    """Untrained nets on one training batch in scan order, one for each gain.

    The recurrent weights of an RNN are the identity, as the paper's were; those of the others as in their experiments.
    The one column of its input weights has the norm 1/2, as one of the four blocks of the released code's jointly
    orthogonal matrix has about. With an orthogonal column, of norm 1, gradients of gains from 0.6 on fall more slowly
    than in the published figure, by up to 11 decades (root mean square over all time steps).

    Args:
        net: the cell, and whether it is batch-normalized: the RNN's sum of both products, as in the paper's figure; the
            LSTM and GRU as in their experiments.
        gammas: initial gains; a net without normalization has one curve.
        units, batch_size, seed: of net and batch.
        precision: float32 is what the published figure was computed in; its lower part underflows.
        initial_state: noise for each image, the image's mean pixel, or the same for all images. In the first rows of
            pixels all images are alike, and without a difference between their states nothing can be normalized.
        noise: its standard deviation.
        input_norm: norm of the RNN's input weights.
        data: the images.
    """
    cell = net.removeprefix("bn-")
    normalized = net != cell
    flows = []
    for gamma in gammas if normalized else (None,):
        config = PixelConfig(
            cell=cell,  # pyright: ignore[reportArgumentType]
            norm=("summed" if cell == "rnn" else "recurrent") if normalized else "none",
            gamma=gamma,
            seed=seed,
            units=units,
            batch_size=batch_size,
            recurrent_init="identity-all" if cell == "rnn" else "identity-candidate",
            initial_state=initial_state,
            noise=noise,
        )
        task = PixelTask(config, data=data, order="scan")
        if cell == "rnn":
            with torch.no_grad():
                task.model.rnn.weight_ih_l0.mul_(input_norm)  # orthogonal: a column of norm 1 before
        name = f"{net.upper()}, gamma {gamma:g}" if gamma is not None else net.upper()
        flows.append(Flow(name, gamma, of_task(task, precision)))
    return flows


def of_task(task: PixelTask, precision: Literal["float64", "float32"] = "float64") -> tuple[float, ...]:
    """The norms of a pixel experiment's net as it is, on its first training batch."""
    pixels, labels = task.batch(0, 0)
    torch.manual_seed(task.seed)
    return gradient_norms(task.model.to(getattr(torch, precision)), pixels, labels)


def of_run(path: Path, precision: Literal["float64", "float32"] = "float64") -> Flow:
    """The norms of a trained pixel run's selected model, on its own first training batch.

    Raises:
        RunError: no such run, it has no checkpoint, or it is not one of a pixel experiment.
    """
    folder = RunFolder(path)
    described = folder.read_config()
    experiment = find(described["experiment"])
    task = experiment.build(experiment.restore(described))
    if not isinstance(task, PixelTask):
        raise RunError(f"{path} is a run of {experiment.name}, which is no pixel experiment")
    if not folder.checkpoint.exists():
        raise RunError(f"{path} has no checkpoint yet; train it with bnrnn run")
    parameters, update = checkpoint.model_of(*checkpoint.load(folder.checkpoint), "best")
    task.model.load_state_dict(parameters)
    return Flow(f"{experiment.name} {described['label']}, update {update:,}", None, of_task(task, precision))
