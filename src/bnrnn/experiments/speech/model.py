"""A deep bidirectional network that classifies the frames of an utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import bnrnn
from bnrnn.experiments.norms import norm_of
from bnrnn.experiments.speech.config import SpeechConfig
from bnrnn.training.loss import linear_cross_entropy


class FrameClassifier(nn.Module):
    r"""Bidirectional recurrent layers, and a softmax over the targets at each frame.

    .. math:: p(y_t \mid x_1 \ldots x_T) = \mathrm{softmax}(W_y [\overrightarrow{h}_t, \overleftarrow{h}_t] + b_y)

    Weights are drawn as Glorot has it, each gate's matrix by itself; all biases are zero (Laurent et al. 2015).

    Args:
        config: options.
        dimensions: of a frame.
        classes: number of targets.
    """

    priors: Tensor
    """How often each target is in the training part, ``(classes,)``, of sum 1; it goes with the parameters."""

    def __init__(self, config: SpeechConfig, dimensions: int, classes: int) -> None:
        super().__init__()
        kinds = {"lstm": bnrnn.LSTM, "gru": bnrnn.GRU, "rnn": bnrnn.RNN}
        self.rnn = kinds[config.cell](
            dimensions,
            config.units,
            num_layers=config.layers,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
            norm=norm_of(config.norm, config.gamma),
            zoneout=config.zoneout,
            recurrent_dropout=config.recurrent_dropout,
            backend=config.backend,
        )
        self.readout = nn.Linear(2 * config.units, classes)
        self.register_buffer("priors", torch.full((classes,), 1 / classes))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights; biases are zero."""
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("weight"):
                for gate in parameter.split(self.rnn.hidden_size):
                    nn.init.xavier_uniform_(gate)
            elif name.startswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.xavier_uniform_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(
        self, features: Tensor, lengths: Tensor, targets: Tensor | None = None, readout: bool = True
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Classifies every frame within the lengths; what is beyond enters nothing.

        Args:
            features: ``(T, B, dimensions)``.
            lengths: int64 ``(B,)``.
            targets: int64 ``(T, B)``.
            readout: whether to go on to the softmax where there are no targets.

        Returns:
            With targets their mean cross-entropy in nats and how many have the largest logit; without, the log
            posteriors ``(T, B, classes)``, or the last layer's outputs.
        """
        hidden, _ = self.rnn(features.to(self.readout.weight.dtype), lengths=lengths)
        if targets is not None:
            steps = torch.arange(len(features), device=hidden.device).unsqueeze(1)
            valid = steps < lengths.to(hidden.device)
            found = linear_cross_entropy(hidden[valid], self.readout.weight, self.readout.bias, targets[valid])
            return found.loss, found.correct
        return self.readout(hidden).float().log_softmax(-1) if readout else hidden
