"""A language model symbol by symbol, without a layer's cost a call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import bnrnn
from bnrnn.experiments.language import LanguageModel, State
from bnrnn.nn.normalization import Normalization

Step = Callable[[int], Tensor]


def steps(model: LanguageModel, window: int | None = None) -> Step:
    """A function that reads one symbol's index, goes one step on, and returns the next symbol's logits (V,).

    The model must be in ``eval()``. It starts from its initial state. An LSTM whose statistics are known beforehand is
    laid out for single steps once, any other model is called each time; the numbers are the same up to rounding.

    Args:
        model: its parameters must not change while the function is in use.
        window: the statistics' step starts anew after so many symbols; None for never.
    """
    rnn = model.rnn
    fixed = not any(isinstance(m, Normalization) and isinstance(m.spec, bnrnn.LayerNorm) for m in rnn.modules())
    plain = not (rnn.bidirectional or rnn.proj_size or any(rnn._zoneout))
    if isinstance(rnn, bnrnn.LSTM) and fixed and plain:
        return _Prepared(model, rnn, window)
    return _called(model, window)


def _called(model: LanguageModel, window: int | None) -> Step:
    state: State | None = None
    count = 0

    @torch.no_grad()
    def step(index: int) -> Tensor:
        nonlocal state, count
        token = torch.full((1, 1), index, device=model.readout.weight.device)
        start = count % window if window else count
        logits, state = model(token, state=state, start_step=start, readout="last")
        count += 1
        return logits[0]

    return step


class _Prepared:
    """With known statistics a normalization is a scale and a shift, and the shifts join the bias."""

    @torch.no_grad()
    def __init__(self, model: LanguageModel, rnn: bnrnn.LSTM, window: int | None) -> None:
        self.readout = model.readout.weight.detach(), model.readout.bias.detach()
        self.layers = [_Layer(rnn, index) for index in range(rnn.num_layers)]
        h, c = (value.detach()[:, 0] for value in model.start(1))
        self.states = list(zip(h, c, strict=True))
        self.window, self.count = window, 0
        self.embedded = model.embedding is not None
        if model.embedding is not None:
            self.inputs = model.embedding.weight.detach()
        else:  # the first layer's product with a one-hot symbol is a look-up in the transposed weight
            self.inputs = self.layers[0].weight_ih.t().contiguous()

    @torch.inference_mode()
    def __call__(self, index: int) -> Tensor:
        at = self.count % self.window if self.window else self.count
        self.count += 1
        x = self.inputs[index]
        for place, layer in enumerate(self.layers):
            product = torch.mv(layer.weight_ih, x) if place or self.embedded else x
            x, c = layer.step(product, *self.states[place], at)
            self.states[place] = (x, c)
        return torch.addmv(self.readout[1], self.readout[0], x)


class _Layer:
    """One layer of an LSTM, its statistics turned into scales and shifts of each step."""

    def __init__(self, rnn: bnrnn.LSTM, index: int) -> None:
        self.weight_ih = rnn.get_parameter(f"weight_ih_l{index}").detach()
        self.weight_hh = rnn.get_parameter(f"weight_hh_l{index}").detach()
        sites = {} if rnn.norm is None else dict(getattr(rnn, f"norm_l{index}").items())
        bias = self.weight_ih.new_zeros(1, len(self.weight_ih))
        for name in (f"bias_ih_l{index}", f"bias_hh_l{index}"):
            if (value := getattr(rnn, name, None)) is not None:
                bias = bias + value.detach()
        scale_x, shift_x = _affine(sites.get("input"))
        scale_h, shift_h = _affine(sites.get("recurrent"))
        if "summed" in sites:
            scale_x, shift_x = _affine(sites["summed"])
            scale_h = scale_x
        for shift in (shift_x, shift_h):
            bias = bias if shift is None else bias + shift
        columns = [bias, scale_x, scale_h, *_affine(sites.get("cell"))]
        length = max(len(column) for column in columns if column is not None)
        self.rows = list(zip(*(_unbound(column, length) for column in columns), strict=True))
        self.last = length - 1

    def step(self, x: Tensor, h: Tensor, c: Tensor, at: int) -> tuple[Tensor, Tensor]:
        """From the input's product and the state to the next state."""
        bias, scale_x, scale_h, scale_c, shift_c = self.rows[min(at, self.last)]
        assert bias is not None
        if scale_h is None:
            gates = torch.addmv(bias, self.weight_hh, h)
        else:
            gates = torch.addcmul(bias, scale_h, torch.mv(self.weight_hh, h))
        gates = gates.add_(x) if scale_x is None else gates.addcmul_(scale_x, x)
        i, f, g, o = gates.chunk(4)
        c = torch.addcmul(i.sigmoid_().mul_(g.tanh_()), f.sigmoid_(), c)
        if shift_c is None:
            inner = c.tanh()
        elif scale_c is None:
            inner = (c + shift_c).tanh_()
        else:
            inner = torch.addcmul(shift_c, scale_c, c).tanh_()
        return inner.mul_(o.sigmoid_()), c


def _unbound(column: Tensor | None, length: int) -> list[Tensor | None]:
    """The rows of a table of one step or of all; None for each where there is none."""
    return [None] * length if column is None else list(column.expand(length, -1).unbind())


def _affine(site: Normalization | None) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift of each step, None where there is none."""
    if site is None:
        return None, None
    beta = None if site.beta is None else site.beta.detach()
    if isinstance(site.spec, bnrnn.Shift):
        return None, None if beta is None else beta[None]
    known = site.site(0, max(1, len(site.mean)))
    assert known.gamma is not None
    assert known.mean is not None
    assert known.var is not None
    scale = known.gamma.detach() * torch.rsqrt(known.var + known.eps)
    shift = -scale * known.mean
    return scale.to(known.gamma.dtype), (shift if beta is None else shift + beta).to(known.gamma.dtype)
