"""What the LSTM, GRU and RNN layers share: arguments, layers and directions, lengths, statistics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bnrnn.nn.norm import Norm
from bnrnn.nn.normalization import Normalization
from bnrnn.nn.norms import resolve
from bnrnn.nn.stream import Stream
from bnrnn.ops import Sites
from bnrnn.ops.dispatch import BACKENDS, Backend
from bnrnn.ops.sites import Statistics

Layer = TypeVar("Layer", bound="RecurrentLayer")


class Valid(NamedTuple):
    """Which rows are valid at which step, the batch being sorted by decreasing length."""

    lengths: Tensor
    """``(B,)``, on the input's device."""
    batch_sizes: Tensor
    """Valid rows at each step ``(T,)``, on the CPU."""


class Call(NamedTuple):
    """One layer in one direction, as its cell's recurrence takes it."""

    x: Tensor
    state: tuple[Tensor, ...]
    suffix: str
    sites: Sites
    batch_sizes: Tensor | None
    recurrent_mask: Tensor | None
    zoneout: tuple[Tensor | None, ...]


class RecurrentLayer(nn.Module):
    """Base of :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` and :class:`bnrnn.RNN`."""

    gates: ClassVar[int]
    torch_class: ClassVar[type[nn.RNNBase]]
    torch_options: ClassVar[tuple[str, ...]]
    """Constructor arguments that this cell has beside the common ones."""
    has_cell: ClassVar[bool] = False
    weight_ih_l0: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        norm: Norm | str | None,
        zoneout: tuple[float, ...],
        recurrent_dropout: float,
        backend: Backend,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("input_size", input_size, 1),
            ("hidden_size", hidden_size, 1),
            ("num_layers", num_layers, 1),
            ("proj_size", proj_size, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if proj_size >= hidden_size:
            raise ValueError(f"proj_size must be smaller than hidden_size ({hidden_size}), got {proj_size}")
        for name, value in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, got {value!r}")
        _check_probability("dropout", dropout, allow_one=True)
        _check_probability("recurrent_dropout", recurrent_dropout)
        for value in zoneout:
            _check_probability("zoneout", value)
        if dropout and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts between layers, and num_layers=1 has none", UserWarning, stacklevel=3
            )
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point type, got {dtype}")

        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.norm = resolve(norm, has_cell=self.has_cell)
        self.recurrent_dropout = float(recurrent_dropout)
        self.backend: Backend = backend
        self._zoneout = tuple(float(p) for p in zoneout)

        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                self._add_parameters(layer, suffix, device, dtype)
        self.reset_parameters()

    @classmethod
    def from_torch(
        cls: type[Layer],
        module: nn.RNNBase,
        *,
        norm: Norm | str | None = None,
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

        width = self.gates * self.hidden_size
        output = self._output_size
        directions = 2 if self.bidirectional else 1
        parameter("weight_ih", width, self.input_size if layer == 0 else output * directions)
        parameter("weight_hh", width, output)
        if self.bias:
            parameter("bias_ih", width)
            if self._has_bias_hh:
                parameter("bias_hh", width)
        if self.proj_size:
            parameter("weight_hr", output, self.hidden_size)
        if self.norm is not None:
            normalizations = {
                name: Normalization(
                    spec,
                    self.hidden_size if name == "cell" else width,
                    offset=name == "cell",
                    device=device,
                    dtype=dtype,
                )
                for name, spec in self.norm.sites().items()
            }
            self.add_module("norm" + suffix, nn.ModuleDict(normalizations))

    @property
    def _has_bias_hh(self) -> bool:
        """A normalized LSTM or RNN has one bias: a second would only be added to it."""
        return self.norm is None

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def _state_sizes(self) -> tuple[int, ...]:
        return (self._output_size, self.hidden_size) if self.has_cell else (self._output_size,)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    @property
    def _all_suffixes(self) -> list[str]:
        return [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]

    def _normalizations(self, suffix: str) -> dict[str, Normalization]:
        return {} if self.norm is None else dict(getattr(self, "norm" + suffix).items())

    def _weight(self, name: str, suffix: str) -> Tensor:
        """By attribute, since torch.func and parametrizations put tensors in a parameter's place."""
        return getattr(self, name + suffix)

    def _parameter(self, name: str, suffix: str) -> Tensor | None:
        return getattr(self, name + suffix, None)

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters without the norms', a list for each layer and direction, in torch.nn's order."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [
            [p for name in names if (p := self._parameter(name, suffix)) is not None] for suffix in self._all_suffixes
        ]

    def flatten_parameters(self) -> None:
        """Do nothing: the parameters stay separate. It exists for programs written for torch.nn."""

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-1/sqrt(H), 1/sqrt(H)) as torch.nn does; reset gains and statistics."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weights in self.all_weights:
            for weight in weights:
                nn.init.uniform_(weight, -bound, bound)
        for module in self.modules():
            if isinstance(module, Normalization):
                module.reset_parameters()

    # The cell's own part

    def _recur(self, call: Call) -> tuple[Tensor, tuple[Tensor, ...], Statistics]:
        """Run the cell's recurrence: outputs, final state, batch statistics."""
        raise NotImplementedError

    def _torch(self) -> Callable[..., Any]:
        """torch's own function for this layer without a norm."""
        raise NotImplementedError

    # One step at a time

    def stream(self, hx: Any = None, start_step: int = 0) -> Stream:
        """Read a sequence one time step a call, in ``eval()``: see :class:`bnrnn.nn.stream.Stream`."""
        return Stream(self, hx, start_step)

    @property
    def zoneout_probabilities(self) -> tuple[float, ...]:
        """Of the hidden state and, for an LSTM, of the cell."""
        return self._zoneout

    def biases(self, suffix: str) -> tuple[Tensor | None, Tensor | None]:
        """The bias ``(gates * H,)`` as the recurrence takes it, and a GRU's inside the product with its reset gate."""
        bias, bias_hh = self._parameter("bias_ih", suffix), self._parameter("bias_hh", suffix)
        return bias if bias is None or bias_hh is None else bias + bias_hh, None

    def check_step(self, x: Tensor, hx: Any) -> tuple[Tensor, ...]:
        """The state to start from, for a step's input ``(B, I)`` or integers ``(B,)``.

        Raises:
            ValueError, TypeError: an argument that the layer does not take.
        """
        self._check_input(x, dims=2)
        self._check_tokens(x)
        state = hx if hx is None or isinstance(hx, tuple) else (hx,)
        return self._state(x, state, x.shape[0], batched=True)

    # The forward pass

    def _forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, ...] | None,
        lengths: Tensor | Sequence[int] | None,
        start_step: int,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, ...]]:
        self.check_start_step(start_step)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths: a PackedSequence has its own; got lengths beside one")
            self._check_input(input.data, dims=2)
            batch = int(input.batch_sizes[0])
            state = self._state(input.data, hx, batch, batched=True)
            if self._is_plain:
                return self._forward_torch_packed(input, state)
            x, packed_lengths = pad_packed_sequence(input)
            output, state = self._forward_padded(x, state, packed_lengths, start_step)
            if input.sorted_indices is not None:
                output = output.index_select(1, input.sorted_indices)
                packed_lengths = packed_lengths[input.sorted_indices.cpu()]
            data = pack_padded_sequence(output, packed_lengths).data
            return PackedSequence(data, *input[1:]), state

        feature_dims = int(torch.is_tensor(input) and input.is_floating_point())
        self._check_input(input, dims=None)
        batched = input.dim() == 2 + feature_dims
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[0] == 0 or x.shape[1] == 0:
            raise ValueError(f"input: at least one time step and one sequence are needed, got {tuple(input.shape)}")
        checked = self._lengths(lengths, x, batched)
        state = self._state(x, hx, x.shape[1], batched)
        if self._is_plain and checked is None and x.is_floating_point() and not torch.compiler.is_compiling():
            output, *final = self._torch()(x, self._torch_state(state), *self._torch_arguments(), False)
            state = tuple(final)
        else:
            output, state = self._forward_padded(x, state, checked, start_step)
        if not batched:
            return output.squeeze(1), tuple(s.squeeze(1) for s in state)
        return output.transpose(0, 1) if self.batch_first else output, state

    @property
    def _is_plain(self) -> bool:
        """Whether torch's own fused layers do all that is asked for."""
        plain = self.norm is None and not self.recurrent_dropout and not any(self._zoneout)
        return plain and self.backend == "auto"

    def _torch_state(self, state: tuple[Tensor, ...]) -> Any:
        return state if self.has_cell else state[0]

    def _torch_arguments(self) -> tuple[Any, ...]:
        weights = [weight for group in self.all_weights for weight in group]
        return weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional

    def _forward_torch_packed(
        self, packed: PackedSequence, state: tuple[Tensor, ...]
    ) -> tuple[PackedSequence, tuple[Tensor, ...]]:
        to_sorted, to_given = packed.sorted_indices, packed.unsorted_indices
        if to_sorted is not None:
            state = tuple(s.index_select(1, to_sorted) for s in state)
        output, *final = self._torch()(
            packed.data, packed.batch_sizes, self._torch_state(state), *self._torch_arguments()
        )
        if to_given is not None:
            final = [s.index_select(1, to_given) for s in final]
        return PackedSequence(output, *packed[1:]), tuple(final)

    def _forward_padded(
        self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, start_step: int
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Sort the batch by length where it has lengths, run the layers, restore the order."""
        if lengths is None:
            self._check_tokens(x)
            return self._layers(x, state, None, start_step)
        in_order, order = lengths.sort(descending=True, stable=True)
        order, device_lengths = order.to(x.device), in_order.to(x.device)
        steps = torch.arange(x.shape[0])
        valid = Valid(device_lengths, (in_order > steps.unsqueeze(1)).sum(1))
        x = x.index_select(1, order)
        padding = steps.to(x.device).unsqueeze(1) >= device_lengths
        x = x.masked_fill(padding.unsqueeze(-1) if x.is_floating_point() else padding, 0)
        self._check_tokens(x)
        output, state = self._layers(x, tuple(s.index_select(1, order) for s in state), valid, start_step)
        back = order.argsort()
        return output.index_select(1, back), tuple(s.index_select(1, back) for s in state)

    def _layers(
        self, x: Tensor, state: tuple[Tensor, ...], valid: Valid | None, start_step: int
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._check_rows(x, valid)
        batch_sizes = None if valid is None else valid.batch_sizes
        finals: list[tuple[Tensor, ...]] = []
        updates: list[tuple[dict[str, Normalization], Statistics]] = []
        for layer in range(self.num_layers):
            outputs = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                normalizations = self._normalizations(suffix)
                sites = Sites(**{name: n.site(start_step, x.shape[0]) for name, n in normalizations.items()})
                own_state = tuple(s[len(finals)] for s in state)
                call = Call(
                    _reversed(x, valid) if reverse else x,
                    own_state,
                    suffix,
                    sites,
                    batch_sizes,
                    *self._masks(x),
                )
                output, final, statistics = self._recur(call)
                outputs.append(_reversed(output, valid) if reverse else output)
                finals.append(final)
                updates.append((normalizations, statistics))
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        for normalizations, statistics in updates:
            for name, (mean, var) in statistics.items():
                if batch_sizes is not None and len(mean) > 1:
                    own = int((batch_sizes >= sites_min_rows(normalizations[name])).sum())
                    mean, var = mean[:own], var[:own]
                normalizations[name].update(start_step, mean, var)
        return x, tuple(torch.stack(s) for s in zip(*finals, strict=True))

    def _masks(self, x: Tensor) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """The recurrent dropout's mask and the zoneouts', drawn here so that every backend gets the same."""
        steps, batch = x.shape[:2]
        weight = self.weight_ih_l0

        def ones(p: float, *shape: int) -> Tensor:
            return torch.empty(shape, device=weight.device, dtype=weight.dtype).bernoulli_(p)

        keep = 1 - self.recurrent_dropout
        mask = ones(keep, batch, self._output_size) / keep if keep < 1 and self.training else None
        zoneout = tuple(
            (ones(p, steps, batch, size) if self.training else weight.new_tensor(p)) if p else None
            for p, size in zip(self._zoneout, self._state_sizes, strict=True)
        )
        return mask, zoneout

    # Checks: all are made before any work

    def check_start_step(self, start_step: int) -> None:
        if isinstance(start_step, bool) or not isinstance(start_step, (int, torch.SymInt)):
            raise TypeError(f"start_step must be an int, got {start_step!r}")
        if start_step < 0:
            raise ValueError(f"start_step must not be negative, got {start_step}")
        if start_step and self.bidirectional:
            raise ValueError(
                "start_step must be 0 for a bidirectional layer, whose reverse direction has no earlier chunk; got "
                f"{start_step}"
            )

    def _check_input(self, input: Any, dims: int | None) -> None:
        if not isinstance(input, Tensor):
            raise TypeError(f"input must be a Tensor or PackedSequence, got {type(input).__name__}")
        weight = self.weight_ih_l0
        if input.device != weight.device:
            raise ValueError(f"input is on {input.device}, the layer's parameters on {weight.device}")
        if input.is_floating_point():
            if input.dtype != weight.dtype and not torch.is_autocast_enabled(input.device.type):
                raise ValueError(f"input has dtype {input.dtype}, the layer's parameters {weight.dtype}")
            allowed = (dims,) if dims else (2, 3)
            if input.dim() not in allowed or input.shape[-1] != self.input_size:
                layout = "(B, T, {})" if self.batch_first else "(T, B, {})"
                raise ValueError(
                    f"input must have shape {layout.format(self.input_size)} or (T, {self.input_size}), got "
                    f"{tuple(input.shape)}"
                )
        elif input.dtype not in (torch.int64, torch.int32):
            raise TypeError(
                f"input must be {weight.dtype}, or int64 or int32 that stand for one-hot rows; got {input.dtype}"
            )
        elif input.dim() not in ((dims - 1,) if dims else (1, 2)):
            layout = "(B, T)" if self.batch_first else "(T, B)"
            raise ValueError(f"input of integers must have shape {layout} or (T,), got {tuple(input.shape)}")

    def _check_tokens(self, x: Tensor) -> None:
        if x.is_floating_point() or torch.compiler.is_compiling():
            return
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= self.input_size:
            raise ValueError(f"input: integers must be in [0, {self.input_size}), got {low} to {high}")

    def _check_rows(self, x: Tensor, valid: Valid | None) -> None:
        for normalization in [n for suffix in self._all_suffixes for n in self._normalizations(suffix).values()]:
            if not normalization.takes_batch_statistics:
                continue
            rows = x.shape[1]
            if normalization.is_sequence:
                rows = x.shape[0] * rows if valid is None else int(valid.batch_sizes.sum())
            least = sites_min_rows(normalization)
            if rows < least:
                raise ValueError(
                    f"input: expected more than {least - 1} rows to take batch statistics of, got "
                    f"{rows} in shape (T, B) = {tuple(x.shape[:2])}; use eval() or a larger batch"
                )

    def _state(self, x: Tensor, hx: tuple[Tensor, ...] | None, batch: int, batched: bool) -> tuple[Tensor, ...]:
        weight = self.weight_ih_l0
        count = self.num_layers * self._directions
        if hx is None:
            return tuple(weight.new_zeros(count, batch, size) for size in self._state_sizes)
        names = ("h_0", "c_0")
        for name, value, size in zip(names, hx, self._state_sizes, strict=False):
            if not isinstance(value, Tensor):
                raise TypeError(f"hx: {name} must be a Tensor, got {type(value).__name__}")
            expected = (count, batch, size) if batched else (count, size)
            if tuple(value.shape) != expected:
                raise ValueError(f"hx: {name} must have shape {expected}, got {tuple(value.shape)}")
            if value.device != weight.device:
                raise ValueError(f"hx: {name} is on {value.device}, the layer's parameters on {weight.device}")
            if value.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
                raise ValueError(f"hx: {name} has dtype {value.dtype}, the layer's parameters {weight.dtype}")
        return hx if batched else tuple(value.unsqueeze(1) for value in hx)

    def _lengths(self, lengths: Tensor | Sequence[int] | None, x: Tensor, batched: bool) -> Tensor | None:
        """The lengths on the CPU, or None if no row is shorter than the input."""
        if lengths is None:
            return None
        if not batched:
            raise ValueError("lengths: an unbatched input has one length, its own; got lengths beside one")
        if not isinstance(lengths, Tensor):
            if not isinstance(lengths, Sequence) or isinstance(lengths, str):
                raise TypeError(f"lengths must be a tensor or a sequence of ints, got {type(lengths).__name__}")
            try:
                lengths = torch.tensor(lengths)
            except (TypeError, ValueError) as error:
                raise TypeError(f"lengths must be a tensor or a sequence of ints, got {lengths!r}") from error
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths must be integers, got {lengths.dtype}")
        steps, batch = x.shape[:2]
        if tuple(lengths.shape) != (batch,):
            raise ValueError(f"lengths must have shape ({batch},), one for each sequence; got {tuple(lengths.shape)}")
        lengths = lengths.detach().to("cpu", torch.int64)
        low, high = int(lengths.min()), int(lengths.max())
        if low < 1 or high > steps:
            raise ValueError(f"lengths must be from 1 to {steps}, the input's steps; got {low} to {high}")
        return None if low == steps else lengths

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


def sites_min_rows(normalization: Normalization) -> int:
    """The least number of rows that the site takes batch statistics of."""
    return getattr(normalization.spec, "min_rows", 1)


def _reversed(x: Tensor, valid: Valid | None) -> Tensor:
    """Each sequence backwards within its own length; its padding stays at the end."""
    if valid is None:
        return x.flip(0)
    t = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    index = torch.where(t < valid.lengths, valid.lengths - 1 - t, t)
    return x[index, torch.arange(x.shape[1], device=x.device)]


def _check_probability(name: str, value: object, *, allow_one: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (0 <= value < 1 or (allow_one and value == 1)):
        raise ValueError(f"{name} must be a probability in [0, 1{']' if allow_one else ')'}, got {value!r}")
