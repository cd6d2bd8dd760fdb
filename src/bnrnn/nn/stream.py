"""A layer in evaluation, one time step a call, without a layer's cost a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnrnn.nn.norm import BatchNorm, LayerNorm
from bnrnn.nn.normalization import Normalization
from bnrnn.ops import step as kernel

if TYPE_CHECKING:
    from bnrnn.nn.recurrent import RecurrentLayer

Row = tuple[Tensor | None, ...]
State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, Row], State]
"""From the product of the input, the state and the step's row of the table to the new state."""


class Stream:
    """A layer in ``eval()`` that reads a sequence one time step a call and carries its state itself.

    With population statistics a normalization is a scale and a shift that are known beforehand, so they are laid out
    once, a row for each time step of the table, and the shifts join the bias. The numbers are those of calling the
    layer with a sequence of one step, its state and ``start_step``. A layer-normalized layer has nothing to lay out and
    is called each time.

    The layer's parameters and statistics must not change while the stream is in use. Nothing is differentiated.

    Args:
        layer: a unidirectional :class:`bnrnn.LSTM`, :class:`bnrnn.GRU` or :class:`bnrnn.RNN` in ``eval()``.
        hx: the state to start from, as in the layer's call; None for zeros.
        start_step: the time step that the first call stands for.

    Call:
        ``output = stream(x)`` with x ``(B, I)``, or integers ``(B,)`` that stand for one-hot rows, gives the last
        layer's output ``(B, R)``.

    Attributes:
        step: the time step of the next call. It may be set.

    Raises:
        ValueError: the layer is bidirectional; the step is negative; ``x`` has another shape.
        RuntimeError: the layer is in training or under :func:`bnrnn.batch_statistics`, or its population statistics
            were never set.
    """

    def __init__(self, layer: RecurrentLayer, hx: Any = None, start_step: int = 0) -> None:
        if layer.bidirectional:
            raise ValueError("layer: a bidirectional layer cannot be streamed, it reads sequences from both ends")
        if layer.training:
            raise RuntimeError("layer: a stream uses population statistics; call layer.eval() first")
        if any(isinstance(m, Normalization) and m.takes_batch_statistics for m in layer.modules()):
            raise RuntimeError("layer: a stream uses population statistics, and this layer now takes its batch's own")
        self._layer = layer
        self.step = start_step
        self._hx = hx
        self._laid_out: list[_LaidOut] | None = None
        self._states: list[State] = []
        self._seen: Any = None  # the input that has been checked: shape and dtype
        specs = [] if layer.norm is None else layer.norm.sites().values()
        if not any(isinstance(spec, LayerNorm) for spec in specs):
            with torch.no_grad():
                self._laid_out = [_LaidOut(layer, f"_l{index}") for index in range(layer.num_layers)]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        if self._laid_out is None:
            x = x.unsqueeze(1) if self._layer.batch_first else x.unsqueeze(0)
            output, self._hx = self._layer(x, self._hx, start_step=self._step)
            self._step += 1
            return output.squeeze(1 if self._layer.batch_first else 0)
        if (x.shape, x.dtype) != self._seen:
            state = self._layer.check_step(x, self.state)
            self._states = list(zip(*(s.unbind(0) for s in state), strict=True))
            self._seen = x.shape, x.dtype
        for index, laid_out in enumerate(self._laid_out):
            state = laid_out(x, self._states[index], self._step)
            self._states[index] = state
            x = state[0]
        self._step += 1
        return x

    @property
    def step(self) -> int:
        return self._step

    @step.setter
    def step(self, value: int) -> None:
        self._layer.check_start_step(value)
        self._step = value

    @property
    def state(self) -> Any:
        """The state so far, as the layer returns it; what was given before the first call."""
        if not self._states:
            return self._hx
        stacked = tuple(torch.stack(s) for s in zip(*self._states, strict=True))
        return stacked if self._layer.has_cell else stacked[0]


class _LaidOut:
    """One layer: its weights, and a table of scales and shifts with a row for each step."""

    def __init__(self, layer: RecurrentLayer, suffix: str) -> None:
        norms: dict[str, Normalization] = {} if layer.norm is None else dict(getattr(layer, "norm" + suffix).items())
        weight_ih, weight_hh = (getattr(layer, name + suffix).detach() for name in ("weight_ih", "weight_hh"))
        scale_x, shift_x = _affine(norms.get("input"))
        scale_h, shift_h = _affine(norms.get("recurrent"))
        scale_s, shift_s = _affine(norms.get("summed"))
        if scale_s is not None:
            scale_x = scale_h = scale_s
        bias, bias_hn = layer.biases(suffix)
        if bias_hn is not None:  # a GRU's, inside the product with the reset gate
            inside = F.pad(bias_hn, (2 * layer.hidden_size, 0))
            shift_h = _sum(shift_h, inside if scale_s is None else inside * scale_s)
        columns = [scale_x, _sum(shift_x, shift_s, bias), scale_h, shift_h, *_affine(norms.get("cell"))]
        steps = max((len(c) for c in columns if c is not None), default=1)
        self._last = steps - 1
        if layer.backend != "reference" and not layer.proj_size and kernel.unsupported(weight_ih) is None:
            net = NETS[layer.torch_class, getattr(layer, "nonlinearity", None)]
            table = _table(columns, steps, weight_hh)
            self._step = kernel.lay_out(net, weight_ih, weight_hh, table, layer.zoneout_probabilities)
        else:
            cell, rows = CELLS[layer.torch_class](layer, suffix), _rows(columns, steps)
            lookup = weight_ih.t().contiguous()

            def step(x: Tensor, state: State, row: int) -> State:
                wx = F.linear(x, weight_ih) if x.is_floating_point() else F.embedding(x, lookup)
                return cell(wx, state, rows[row])

            self._step = step

    def __call__(self, x: Tensor, state: State, step: int) -> State:
        return self._step(x, state, min(step, self._last))


def _lstm(layer: RecurrentLayer, suffix: str) -> Cell:
    weight_hh = getattr(layer, "weight_hh" + suffix).detach()
    weight_hr = None if not layer.proj_size else getattr(layer, "weight_hr" + suffix).detach()
    zoneout_h, zoneout_c = layer.zoneout_probabilities

    def cell(wx: Tensor, state: State, row: Row) -> State:
        h, c = state
        scale_x, shift_x, scale_h, shift_h, scale_c, shift_c = row
        b = _at(wx, scale_x, shift_x)
        i, f, g, o = b.add_(_at(F.linear(h, weight_hh), scale_h, shift_h)).chunk(4, 1)
        new_c = torch.addcmul(i.sigmoid_().mul_(g.tanh_()), f.sigmoid_(), c)
        new_h = _at(new_c, scale_c, shift_c).tanh().mul_(o.sigmoid_())
        if weight_hr is not None:
            new_h = F.linear(new_h, weight_hr)
        return _zoneout(zoneout_h, h, new_h), _zoneout(zoneout_c, c, new_c)

    return cell


def _gru(layer: RecurrentLayer, suffix: str) -> Cell:
    weight_hh = getattr(layer, "weight_hh" + suffix).detach()
    sizes = (layer.hidden_size, layer.hidden_size, layer.hidden_size)
    (zoneout_h,) = layer.zoneout_probabilities

    def cell(wx: Tensor, state: State, row: Row) -> State:
        (h,) = state
        scale_x, shift_x, scale_h, shift_h, _, _ = row
        b_r, b_z, b_n = _at(wx, scale_x, shift_x).split(sizes, 1)
        a_r, a_z, a_n = _at(F.linear(h, weight_hh), scale_h, shift_h).split(sizes, 1)
        n = torch.addcmul(b_n, (a_r + b_r).sigmoid_(), a_n).tanh_()
        return (_zoneout(zoneout_h, h, torch.lerp(n, h, (a_z + b_z).sigmoid_())),)

    return cell


def _rnn(layer: RecurrentLayer, suffix: str) -> Cell:
    weight_hh = getattr(layer, "weight_hh" + suffix).detach()
    activation = torch.tanh if getattr(layer, "nonlinearity", None) == "tanh" else torch.relu
    (zoneout_h,) = layer.zoneout_probabilities

    def cell(wx: Tensor, state: State, row: Row) -> State:
        (h,) = state
        scale_x, shift_x, scale_h, shift_h, _, _ = row
        pre = _at(wx, scale_x, shift_x) + _at(F.linear(h, weight_hh), scale_h, shift_h)
        return (_zoneout(zoneout_h, h, activation(pre)),)

    return cell


NETS: dict[tuple[type[nn.RNNBase], str | None], kernel.Net] = {
    (nn.LSTM, None): "lstm",
    (nn.GRU, None): "gru",
    (nn.RNN, "tanh"): "tanh",
    (nn.RNN, "relu"): "relu",
}
CELLS: dict[type[nn.RNNBase], Callable[[RecurrentLayer, str], Cell]] = {nn.LSTM: _lstm, nn.GRU: _gru, nn.RNN: _rnn}


def _zoneout(probability: float, old: Tensor, new: Tensor) -> Tensor:
    return new if not probability else torch.lerp(new, old, probability)


def _affine(norm: Normalization | None) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift ``(S, n)`` of each step in the table, None where there is none."""
    if norm is None:
        return None, None
    beta = None if norm.beta is None else norm.beta.detach().unsqueeze(0)
    if not isinstance(norm.spec, BatchNorm):
        return None, beta
    site = norm.site(0, max(1, len(norm.mean)))
    assert site.gamma is not None
    assert site.mean is not None
    assert site.var is not None
    scale = site.gamma.detach() * torch.rsqrt(site.var + site.eps)
    shift = -scale * site.mean
    dtype = site.gamma.dtype
    return scale.to(dtype), (shift if beta is None else shift + beta).to(dtype)


def _sum(*terms: Tensor | None) -> Tensor | None:
    present = [t if t.dim() == 2 else t.unsqueeze(0) for t in terms if t is not None]
    return sum(present[1:], present[0]) if present else None


def _rows(columns: list[Tensor | None], steps: int) -> list[Row]:
    """The table's rows; a shorter column goes on with its last."""
    lists = [[None] * steps if c is None else [*c.unbind(0), *[c[-1]] * (steps - len(c))] for c in columns]
    return list(zip(*lists, strict=True))


def _table(columns: list[Tensor | None], steps: int, weight_hh: Tensor) -> Tensor:
    """The same as one tensor, with scales of 1 and shifts of 0 where there are none."""
    width, units = weight_hh.shape
    filled = []
    for index, (column, size) in enumerate(zip(columns, (width, width, width, width, units, units), strict=True)):
        if column is None:
            column = weight_hh.new_full((1, size), float(index % 2 == 0))
        filled.append(torch.cat((column, column[-1:].expand(steps - len(column), size))))
    return torch.cat(filled, 1)


def _at(value: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """``scale * value + shift``, each where it is."""
    if scale is None:
        return value if shift is None else value + shift
    return value * scale if shift is None else torch.addcmul(shift, value, scale)
