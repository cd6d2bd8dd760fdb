"""Normalization from hidden to hidden state, which did not help: Laurent et al. 2015, section 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.optim import SGD

import bnrnn
from bnrnn.data import ptb
from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask
from bnrnn.experiments.language.model import LanguageModel, causal_norm
from bnrnn.experiments.language.trained import trained
from bnrnn.training import Purpose, seed_of


@dataclass(frozen=True)
class HiddenConfig(CharacterConfig):
    """Options of the stack of simple recurrent layers. What the paper leaves open is said at the option.

    Raises:
        ValueError: an option out of its range, or two that do not go together.
    """

    cell: Literal["rnn"] = "rnn"
    """Recurrent cell."""
    norm: Literal["none", "summed"] = "summed"
    """"summed" normalizes W_h h + W_x x, separately at each time step; "none" is the baseline."""
    units: int = 250
    """Hidden units of each layer, and features of the look-up table."""
    layers: int = 3
    """Layers."""
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    """Of the layers; the paper does not say which."""
    learning_rate: float = 0.1
    """Step size; the paper draws it from [1e-4, 1]."""
    momentum: float = 0.9
    """Of the gradient steps; the paper draws it from .5, .8, .9, .95, .995."""
    clip: float | None = None
    """Largest global gradient norm; the paper names none."""
    selection: Literal["error", "loss"] = "loss"
    """Validation metric that chooses the model."""
    whole_test: bool = False
    """Score the test part as one sequence as well."""

    LEAST: ClassVar = {**CharacterConfig.LEAST, "layers": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    @torch.no_grad()
    def build_model(self, vocabulary: Vocabulary) -> LanguageModel:
        """The model with its initial parameters: look-up table N(0, 1), Glorot's matrices, zero biases and state."""
        norm = causal_norm(self.norm, self.gamma)
        rnn = bnrnn.RNN(
            self.units,
            self.units,
            num_layers=self.layers,
            nonlinearity=self.nonlinearity,
            dropout=self.dropout if self.layers > 1 else 0.0,
            zoneout=self.zoneout,
            norm=norm,
            backend=self.backend,
        )
        model = LanguageModel(vocabulary, rnn, embedding=self.units, dropout=self.dropout)
        torch.manual_seed(seed_of(self.seed, Purpose.INITIALIZATION))  # here, so that both norms start from the same
        for name, parameter in model.named_parameters():
            if "weight_ih" in name or "weight_hh" in name or name == "readout.weight":
                nn.init.xavier_uniform_(parameter)
            elif "bias" in name:
                nn.init.zeros_(parameter)
                parameter.requires_grad_("bias_hh" not in name)  # torch.nn's second bias, of which the paper has none
            elif name == "embedding.weight":
                nn.init.normal_(parameter)
        return model


class HiddenTask(CharacterTask):
    """Prediction of each next character by gradient steps with momentum; see :class:`bnrnn.training.Task`."""

    config: HiddenConfig

    def optimizer(self) -> SGD:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return SGD(parameters, lr=self.config.learning_rate, momentum=self.config.momentum)


H2H = Experiment(
    name="h2h",
    summary="Penn Treebank by characters, three simple recurrent layers, normalized from hidden to hidden state",
    paper="Laurent et al. 2015, 4",
    target="Figure 1; the random search by `bnrnn search h2h`",
    data="ptb",
    cost="15,820 updates; 2 h on 2 cores, and 104 such runs are the whole search",
    config=HiddenConfig(),
    build=lambda config: HiddenTask(config, ptb.characters()),
    trained=trained,
    judgement=Judgement("loss", "lower", "validation cross-entropy, nats", figure="h2h", training="loss"),
)
