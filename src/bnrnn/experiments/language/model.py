"""The language model that the character and the word experiments share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnrnn
from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.norms import NormName, norm_of
from bnrnn.training.loss import Predicted, linear_cross_entropy

Readout = Literal["all", "last", "none"]
State = tuple[Tensor, ...]

_CHUNK = 1 << 27  # pre-activations held at once where there is no gradient
LAYERS = {"lstm": bnrnn.LSTM, "gru": bnrnn.GRU, "rnn": bnrnn.RNN}


class LanguageModel(nn.Module):
    r"""Predicts each next symbol of a text from the symbols before it.

    .. math:: p(x_{t+1} \mid x_1 \ldots x_t) = \mathrm{softmax}(W_y h_t + b_y)

    h_t is the output of a recurrent layer over the symbols, one-hot (a look-up in ``weight_ih``) or embedded.

    Args:
        vocabulary: the symbols; it goes with the parameters, and parameters of another one are not loaded.
        rnn: the recurrent layers, over ``len(vocabulary)`` or the embedding's features.
        embedding: features of a symbol's embedding, None for one-hot symbols.
        dropout: on the embedding and on the output; the layers bring their own between them.
        floor: what the loss adds to each probability.
        learn_state: whether a sequence without a given state starts from learnt :math:`h_0` and :math:`c_0`,
            initially zero, instead of zeros.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        rnn: bnrnn.LSTM | bnrnn.GRU | bnrnn.RNN,
        embedding: int | None = None,
        dropout: float = 0.0,
        floor: float = 0.0,
        learn_state: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.rnn = rnn
        self.embedding = None if embedding is None else nn.Embedding(len(vocabulary), embedding)
        self.dropout, self.floor = dropout, floor
        self.readout = nn.Linear(rnn.hidden_size, len(vocabulary))
        names = ("h0", "c0") if isinstance(rnn, bnrnn.LSTM) else ("h0",)
        shape = (rnn.num_layers, rnn.hidden_size)
        self.initial = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(shape), requires_grad=learn_state) for name in names}
        )

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        state: State | None = None,
        start_step: int = 0,
        window: int | None = None,
        readout: Readout = "all",
    ) -> tuple[Predicted | Tensor | None, State]:
        """Reads symbols and predicts the next ones.

        Args:
            tokens: int64 (T, B).
            targets: int64 (T, B), the symbol after each.
            state: what an earlier call returned, to go on from there.
            start_step: how many steps came before; it selects the statistics of a normalized layer.
            window: read so many steps at a time, each time with the statistics from ``start_step`` on.
            readout: logits to make where there are no targets.

        Returns:
            With targets what is predicted of them; without,
            the logits (T, B, V), those of the last step (B, V), or None. Then the state after the last step.
        """
        carried = self.start(tokens.shape[1]) if state is None else state
        outputs: list[Tensor] = []
        length = window or self._chunk(*tokens.shape)
        for start in range(0, len(tokens), length):
            x = part = tokens[start : start + length]
            step = start_step if window else start_step + start
            if self.embedding is not None:
                x = F.dropout(self.embedding(part), self.dropout, self.training)
            hx = carried if isinstance(self.rnn, bnrnn.LSTM) else carried[0]
            output, final = self.rnn(x, hx, start_step=step)
            carried: State = final if isinstance(final, tuple) else (final,)
            if readout != "none" or targets is not None:
                outputs.append(F.dropout(output, self.dropout, self.training))
        if targets is not None:
            hidden = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
            return linear_cross_entropy(hidden, self.readout.weight, self.readout.bias, targets, self.floor), carried
        if readout == "none":
            return None, carried
        if readout == "last":
            return self.readout(outputs[-1][-1]), carried
        return self.readout(torch.cat(outputs) if len(outputs) > 1 else outputs[0]), carried

    def _chunk(self, steps: int, rows: int) -> int:
        """Steps to read at once; fewer than all where no gradient needs them together, to bound the memory."""
        if torch.is_grad_enabled():
            return steps
        return max(1, min(steps, _CHUNK // (rows * len(self.rnn.weight_ih_l0))))

    def start(self, rows: int) -> State:
        """The state before the first symbol, for so many sequences."""
        return tuple(value.unsqueeze(1).expand(-1, rows, -1).contiguous() for value in self.initial.values())

    def get_extra_state(self) -> Tensor:
        """The vocabulary as UTF-8 bytes of JSON, so that a checkpoint says what its indices mean."""
        content = json.dumps([self.vocabulary.symbols, self.vocabulary.unknown])
        return torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        found = vocabulary_of(state)
        if found != self.vocabulary:
            strange = sorted(set(found.symbols) ^ set(self.vocabulary.symbols))[:5]
            raise RuntimeError(
                f"its vocabulary of {len(found)} symbols is not the text's of {len(self.vocabulary)}"
                + (f"; {', '.join(map(repr, strange))} are in one only" if strange else "; the order differs")
            )


def carry_of(state: State) -> dict[str, Tensor]:
    """A state by name and without its history, as the training loop carries it."""
    return {name: value.detach() for name, value in zip(_STATE, state, strict=False)}


def state_of(carry: Mapping[str, Tensor]) -> State:
    """The state that :func:`carry_of` named; a checkpoint brings the names back in an order of its own."""
    return tuple(carry[name] for name in _STATE if name in carry)


_STATE = ("h", "c")
VOCABULARY_KEY = "_extra_state"


def vocabulary_of(state: Tensor) -> Vocabulary:
    """The vocabulary that :meth:`LanguageModel.get_extra_state` wrote."""
    symbols, unknown = json.loads(bytes(state.tolist()).decode())
    return Vocabulary(tuple(symbols), unknown)


def causal_norm(name: NormName, gamma: float | None) -> bnrnn.Norm | None:
    """The normalization of a name, for a language model.

    Raises:
        ValueError: it takes statistics over time, which lets a model see the symbols it is to predict.
    """
    norm = norm_of(name, gamma)
    if norm is not None and norm.looks_ahead:
        raise ValueError(
            f"norm must not be {name!r} for a language model: its statistics look ahead in time and would show it"
            " the symbols it is to predict; take 'recurrent' or 'input-frame'"
        )
    return norm
