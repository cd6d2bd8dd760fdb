"""What a recurrent layer holds: sizes and options, parameters by layer and direction, and what torch.nn's have."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnrnn.nn.arguments import check_input, check_state
from bnrnn.nn.norm import Norm, Normalization, PresetName
from bnrnn.nn.norm.presets import resolve
from bnrnn.nn.sequences import permute
from bnrnn.nn.values import integer, probability
from bnrnn.ops.cells import Cell, Name
from bnrnn.ops.dispatch import BACKENDS, Backend

Layer = TypeVar("Layer", bound="RecurrentParameters")
Mode = Literal["LSTM", "GRU", "RNN_TANH", "RNN_RELU"]
MODES: dict[Name, Mode] = {"lstm": "LSTM", "gru": "GRU", "tanh": "RNN_TANH", "relu": "RNN_RELU"}


class RecurrentParameters(nn.Module):
    """The parameters of :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN`, without their call."""

    torch_class: ClassVar[type[nn.RNNBase]]
    torch_options: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that this cell has beside the common ones."""
    weight_ih_l0: nn.Parameter

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        norm: Norm | PresetName | None,
        zoneout: tuple[float, ...],
        recurrent_dropout: float,
        backend: Backend,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self._cell = cell
        self.input_size = _size("input_size", input_size, 1)
        self.hidden_size = _size("hidden_size", hidden_size, 1)
        self.num_layers = _size("num_layers", num_layers, 1)
        self.proj_size = _size("proj_size", proj_size, 0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"proj_size must be smaller than hidden_size ({hidden_size}), got {proj_size}")
        for name, value in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, got {value!r}")
        self.bias = bias
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        self.dropout = probability("dropout", dropout, allow_one=True)
        self.recurrent_dropout = probability("recurrent_dropout", recurrent_dropout)
        self._zoneout = tuple(probability("zoneout", value) for value in zoneout)
        if dropout and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts between layers, and num_layers=1 has none", UserWarning, stacklevel=3
            )
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point type, got {dtype}")
        self.norm = resolve(norm, has_cell=cell.has_cell)
        self.backend: Backend = backend
        if backend == "torch" and not self._is_plain:
            raise ValueError("backend='torch' has neither norm nor zoneout nor recurrent_dropout")

        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                self._add_parameters(layer, suffix, device, dtype)
        self.reset_parameters()

    @classmethod
    def from_torch(
        cls: type[Layer],
        module: nn.RNNBase,
        *,
        norm: Norm | PresetName | None = None,
        zoneout: Any = 0.0,
        recurrent_dropout: float = 0.0,
        backend: Backend = "auto",
    ) -> Layer:
        """A layer with a copy of a torch.nn layer's weights, on its device, in its dtype and training mode.

        Where the new layer has one bias it gets the sum of the two.

        Args:
            module: the torch.nn layer of the same cell.
            norm, zoneout, recurrent_dropout, backend: as in the constructor.

        Raises:
            TypeError: ``module`` is of another class.
        """
        if not isinstance(module, cls.torch_class):
            raise TypeError(f"module must be a torch.nn.{cls.torch_class.__name__}, got {type(module).__name__}")
        weights = dict(module.named_parameters())
        common = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        create: Any = cls
        layer: Layer = create(
            **{name: getattr(module, name) for name in common + cls.torch_options},
            norm=norm,
            zoneout=zoneout,
            recurrent_dropout=recurrent_dropout,
            backend=backend,
            device=weights["weight_ih_l0"].device,
            dtype=weights["weight_ih_l0"].dtype,
        )
        own = dict(layer.named_parameters())
        with torch.no_grad():
            for name, value in weights.items():
                if name in own:
                    own[name].copy_(value)
                else:
                    own[name.replace("bias_hh", "bias_ih")].add_(value)
        return layer.train(module.training)

    def _add_parameters(
        self, layer: int, suffix: str, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        def parameter(name: str, *shape: int) -> None:
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))

        width = self._cell.gates * self.hidden_size
        parameter("weight_ih", width, self.input_size if layer == 0 else self._output_size * self._directions)
        parameter("weight_hh", width, self._output_size)
        if self.bias:
            parameter("bias_ih", width)
            if self._has_bias_hh:
                parameter("bias_hh", width)
        if self.proj_size:
            parameter("weight_hr", self._output_size, self.hidden_size)
        if self.norm is not None:
            sites = {}
            for name, spec in self.norm.sites().items():
                is_cell = name == "cell"
                size = self.hidden_size if is_cell else width
                sites[name] = Normalization(spec, size, offset=is_cell, device=device, dtype=dtype)
            self.add_module("norm" + suffix, nn.ModuleDict(sites))

    @property
    def _has_bias_hh(self) -> bool:
        """A normalized LSTM or RNN has one bias: a second would only be added to it."""
        return self.norm is None or self._cell.has_reset

    # What follows from sizes and options

    @property
    def mode(self) -> Mode:
        """The cell, by torch.nn's name for it."""
        return MODES[self._cell.name]

    @property
    def _is_plain(self) -> bool:
        """Whether torch.nn's layer is all that is asked for."""
        return self.norm is None and not self.recurrent_dropout and not any(self._zoneout)

    @property
    def _output_size(self) -> int:
        """Features of one direction's output."""
        return self.proj_size or self.hidden_size

    @property
    def _state_sizes(self) -> tuple[int, ...]:
        """Features of h and, for an LSTM, of c."""
        return (self._output_size, self.hidden_size) if self._cell.has_cell else (self._output_size,)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        """What the names of a layer's parameters end in, for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    @property
    def _all_suffixes(self) -> list[str]:
        return [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]

    def _sites(self, suffix: str) -> dict[str, Normalization]:
        """The normalized sites of a layer and direction by name."""
        return {} if self.norm is None else dict(getattr(self, "norm" + suffix).items())

    @property
    def _all_sites(self) -> list[Normalization]:
        return [] if self.norm is None else [n for s in self._all_suffixes for n in self._sites(s).values()]

    def _parameter(self, name: str, suffix: str) -> Tensor | None:
        """A parameter, None where there is none: by attribute, since torch.func puts tensors in a parameter's place."""
        return getattr(self, name + suffix, None)

    def _biases(self, suffix: str) -> tuple[Tensor | None, Tensor | None]:
        """The bias ``(gates * H,)`` as the recurrence takes it, and a GRU's inside the product with its reset gate."""
        bias, bias_hh = self._parameter("bias_ih", suffix), self._parameter("bias_hh", suffix)
        if bias is None or bias_hh is None:
            return bias, None
        if not self._cell.has_reset:
            return bias + bias_hh, None
        of_gates, of_candidate = bias_hh.split((2 * self.hidden_size, self.hidden_size))
        return bias + F.pad(of_gates, (0, self.hidden_size)), of_candidate

    # As torch.nn has it

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters without the norms', a list for each layer and direction, in torch.nn's order."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [
            [p for name in names if (p := self._parameter(name, suffix)) is not None] for suffix in self._all_suffixes
        ]

    @property
    def _flat_weights(self) -> list[Tensor]:
        """All parameters as torch's own functions take them; a normalized layer has no such list."""
        if self.norm is not None:
            raise AttributeError("_flat_weights")
        return [weight for group in self.all_weights for weight in group]

    def flatten_parameters(self) -> None:
        """Do nothing: the parameters stay separate. It exists for programs written for torch.nn."""

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Refuse an input, batched or the data of a PackedSequence, and a state that do not fit each other.

        Raises:
            ValueError, TypeError: as the layer's call.
        """
        check_input(self, input, dims=3 if batch_sizes is None else 2)
        batch = input.shape[0 if self.batch_first else 1] if batch_sizes is None else int(batch_sizes[0])
        check_state(self, input, hidden if self._cell.has_cell else (hidden,), batch)

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The rows of a state in another order, as torch.nn's layers bring them into the order of a PackedSequence."""
        return permute(hx, permutation) if self._cell.has_cell else permute((hx,), permutation)[0]

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-1/sqrt(H), 1/sqrt(H)) as torch.nn does; reset gains and statistics."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weights in self.all_weights:
            for weight in weights:
                nn.init.uniform_(weight, -bound, bound)
        for module in self.modules():
            if isinstance(module, Normalization):
                module.reset_parameters()

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.num_layers != 1:
            parts.append(f"num_layers={self.num_layers}")
        parts += [f"{name}={getattr(self, name)}" for name in ("batch_first", "bidirectional") if getattr(self, name)]
        parts += [f"{n}={v}" for n in ("proj_size", "dropout", "recurrent_dropout") if (v := getattr(self, n))]
        if not self.bias:
            parts.append("bias=False")
        if any(self._zoneout):
            parts.append(f"zoneout={self._zoneout}")
        if self.backend != "auto":
            parts.append(f"backend={self.backend!r}")
        return ", ".join(parts)


def _size(name: str, value: Any, least: int) -> int:
    value = integer(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value
