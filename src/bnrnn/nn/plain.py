"""A layer without normalization on torch's own functions: torch.nn's numbers, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bnrnn.nn.parameters import Mode, RecurrentParameters
from bnrnn.nn.sequences import State, Valid, permute

FUNCTIONS: dict[Mode, Callable[..., Any]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


FEW_STEPS = 12
"""From so many steps on the kernels are faster; below, a call's own cost decides, and torch's is the smaller one."""


def run(layer: RecurrentParameters, x: Tensor, state: State, valid: Valid | None) -> tuple[Tensor, State]:
    """The layer on a padded input, time first, sorted by length where it has lengths."""
    if not x.is_floating_point():
        x = F.one_hot(x.long(), layer.input_size).to(layer.weight_ih_l0.dtype)
    if valid is not None:
        output, state = run_packed(layer, pack_padded_sequence(x, valid.lengths.cpu()), state)
        return pad_packed_sequence(output, total_length=x.shape[0])[0], state
    output, *final = FUNCTIONS[layer.mode](x, _state(layer, state), *_arguments(layer), False)
    return output, tuple(final)


def run_packed(layer: RecurrentParameters, packed: PackedSequence, state: State) -> tuple[PackedSequence, State]:
    data = packed.data
    if not data.is_floating_point():
        data = F.one_hot(data.long(), layer.input_size).to(layer.weight_ih_l0.dtype)
    state = permute(state, packed.sorted_indices)
    output, *final = FUNCTIONS[layer.mode](data, packed.batch_sizes, _state(layer, state), *_arguments(layer))
    return PackedSequence(output, *packed[1:]), permute(tuple(final), packed.unsorted_indices)


def _state(layer: RecurrentParameters, state: State) -> Any:
    return state if layer._cell.has_cell else state[0]


def _arguments(layer: RecurrentParameters) -> tuple[Any, ...]:
    return layer._flat_weights, layer.bias, layer.num_layers, layer.dropout, layer.training, layer.bidirectional
