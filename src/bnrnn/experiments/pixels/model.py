"""A recurrent layer over the pixels of an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import bnrnn
from bnrnn.experiments.initialization import initialize
from bnrnn.experiments.norms import norm_of
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.training import processes


class PixelClassifier(nn.Module):
    r"""A recurrent layer over the pixels of an image, and a softmax on its last hidden state.

    .. math:: p(y \mid x) = \mathrm{softmax}(W_y h_T + b_y)

    The layer starts from learnt :math:`h_0` (and :math:`c_0`), initially 0, the same for all images. Noise on
    :math:`h_0`, different for each image, keeps the batch variance of the hidden state from vanishing where the
    first pixels are the same in all images (Cooijmans et al. 2017, section 5.1).

    Args:
        config: options.
        noise: standard deviation added to ``h_0`` in training, 0 for none.
        classes: number of labels.
    """

    chunk = 112  # steps at once where no gradient is wanted; bounds the memory of large batches

    def __init__(self, config: PixelConfig, noise: float, classes: int) -> None:
        super().__init__()
        self.config, self.noise = config, noise
        kinds = {"lstm": bnrnn.LSTM, "gru": bnrnn.GRU, "rnn": bnrnn.RNN}
        norm = norm_of(config.norm, config.gamma)
        if norm is None and config.cell == "lstm" and config.cell_shift:
            norm = bnrnn.Norm(cell=bnrnn.Shift())
        self.rnn = kinds[config.cell](1, config.units, norm=norm, backend=config.backend)
        self.h0 = nn.Parameter(torch.zeros(config.units))
        self.c0 = nn.Parameter(torch.zeros(config.units)) if config.cell == "lstm" else None
        self.readout = nn.Linear(config.units, classes)
        initialize(self.rnn, config.recurrent_init, config.forget_bias)
        nn.init.orthogonal_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)
        self._chunked = norm is None or not norm.looks_ahead

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, pixels) in [0, 1]."""
        steps = pixels.t().to(self.h0.dtype).unsqueeze(-1)
        state = self.initial_state(pixels)
        length = len(steps) if torch.is_grad_enabled() or not self._chunked else self.chunk
        for start in range(0, len(steps), length):
            _, state = self.rnn(steps[start : start + length], state, start_step=start)
        h = state if self.c0 is None else state[0]
        return self.readout(h[-1])

    def initial_state(self, pixels: Tensor) -> Any:
        """The state before the first pixel, drawn anew where it has noise; as the layer takes it."""
        kind, rows = self.config.initial_state, pixels.shape[0]
        h = self.h0.expand(rows, -1)
        if kind == "mean-pixel":
            h = h + pixels.mean(1, keepdim=True)
        elif self.noise and (self.training or kind != "noise-in-training"):
            h = h + self.noise * processes.randn_like(h)
        h = h.unsqueeze(0)
        return h if self.c0 is None else (h, self.c0.expand(1, rows, -1).contiguous())
