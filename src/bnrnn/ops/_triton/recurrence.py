"""The two passes over a sequence: operands laid out, products by the vendor's library, a launch a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import triton.language as tl
from torch import Tensor

from bnrnn.ops import layout
from bnrnn.ops._triton import step, structures
from bnrnn.ops._triton.choice import Choice, tile
from bnrnn.ops._triton.launches import Fused, multiprocessors
from bnrnn.ops._triton.plan import plan, takes_of_frames
from bnrnn.ops.cells import NUMBERED, Cell
from bnrnn.ops.layout import Given, KindNumber, SiteLayout


def interleaved(weight: Tensor, gates: int) -> Tensor:
    """Rows ``(G, H)`` as ``(H, G)``."""
    if gates == 1:
        return weight.contiguous()
    return weight.view(gates, -1, weight.shape[1]).transpose(0, 1).reshape(weight.shape)


def in_blocks(weight: Tensor, gates: int) -> Tensor:
    """The inverse of :func:`interleaved`."""
    return weight if gates == 1 else weight.view(-1, gates, weight.shape[1]).transpose(0, 1).reshape(weight.shape)


def valid_rows(batch_sizes: Tensor | None, device: torch.device) -> Tensor | None:
    """Valid rows at each step and 0, without waiting for the device."""
    if batch_sizes is None:
        return None
    rows = F.pad(batch_sizes.to(torch.int32), (0, 1))
    return rows.pin_memory().to(device, non_blocking=True) if rows.device != device else rows


def kind(site: SiteLayout) -> Any:
    """How the kernels see a site."""
    if site.kind == KindNumber.LAYER:
        return structures.LAYER
    if site.kind == KindNumber.SEQUENCE:
        return structures.WHOLE
    if site.kind == KindNumber.FRAME:
        return structures.OWN if site.own_statistics else structures.KNOWN
    return structures.NONE


def owned(value: Tensor) -> Tensor:
    """A copy with its rows one after the other."""
    return value.clone(memory_format=torch.contiguous_format)


def pieces(count: int, size: int) -> int:
    return -(-count // size)


class Layout:
    """A call's operands as the kernels take them."""

    def __init__(self, arguments: Sequence[Any], keep: bool) -> None:
        (
            number, x, _, _, weight_ih, weight_hh, bias, bias_hn, weight_hr, tensors, numbers, eps, batch_sizes, mask,
            zoneout_h, zoneout_c, bfloat16,
        ) = arguments  # fmt: skip
        self.cell: Cell = NUMBERED[number]
        self.plan = p = plan(self.cell, x, weight_ih, weight_hh, weight_hr, numbers, mask, zoneout_h, bfloat16, keep)
        self.x = x.contiguous() if p.one_hot else x.to(p.product).reshape(-1, p.inputs)
        self.weight_ih = interleaved(weight_ih.to(p.product), self.cell.gates)
        self.weight_hh = interleaved(weight_hh.to(p.product), self.cell.gates)
        self.weight_hr = None if weight_hr is None else weight_hr.to(p.product).contiguous()
        self.biases = [None if b is None else b.contiguous() for b in (bias, bias_hn)]
        self.tensors, self.numbers, self.eps = [t.contiguous() for t in tensors], numbers, eps
        self.rows = valid_rows(batch_sizes, x.device)
        self.mask, *self.zoneout = (None if t is None else t.contiguous() for t in (mask, zoneout_h, zoneout_c))
        self.choice: Choice = p.choice(multiprocessors(x.device))
        self.row_blocks = 1 if p.takes else pieces(p.batch, self.choice.rows)
        self.tiled = p.takes and p.batch > self.choice.rows
        self.grid = pieces(p.units, self.choice.units), self.row_blocks
        self.shape = structures.Shape(p.steps, p.product_steps, p.chunk, p.state_steps, p.batch, p.units)
        self.tile = {
            "ROWS": self.choice.rows,
            "UNITS": self.choice.units,
            "ACC": tl.float64 if p.numbers == torch.float64 else tl.float32,
        }
        outputs = tile(1, p.batch, p.outputs)
        self.outputs_grid = pieces(p.outputs, outputs.units), pieces(p.batch, outputs.rows)
        self.outputs_tile = {**self.tile, "ROWS": outputs.rows, "UNITS": outputs.units}
        self.outputs_shape = self.shape._replace(units=p.outputs)

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or self.plan.numbers, device=self.x.device)

    def sites(self, statistics: Tensor, gradients: Tensor | None) -> tuple[structures.Sites, Tensor | None]:
        """The sites with their statistics, own ones in ``statistics``; and the cell's offset."""
        p, left, start, at = self.plan, iter(self.tensors), 0, 0
        found, beta = [], None
        for site, n, eps in zip(p.sites, layout.sizes(self.cell, p.units), self.eps, strict=True):
            gamma = next(left) if site.given & Given.GAMMA else None
            beta = next(left) if site.given & Given.BETA else beta
            mean, var = (next(left), next(left)) if site.given & Given.POPULATION else (None, None)
            if site.own_statistics:
                count = (1 if site.kind == KindNumber.SEQUENCE else p.steps) * n
                mean, var = statistics[start : start + 2 * count].split(count)
                start += 2 * count
            grad = None if gradients is None or gamma is None else gradients[0, at:]
            at += n
            sums = self.new(3, n) if self.tiled and gradients is not None and takes_of_frames(site) else None
            found.append(structures.Site(kind(site), gamma, mean, var, eps, site.min_rows, grad, sums))
        return structures.Sites(*found), beta

    def values(
        self, slabs: dict[str, Tensor], inputs: Tensor | None, sites: structures.Sites, beta: Tensor | None
    ) -> structures.Values:
        p = self.plan
        states = slabs.get("states", slabs["operand"]) if p.needs_states else None
        index = self.x if p.one_hot and not p.over_sequence else None
        zoneout_h, zoneout_c = self.zoneout
        h_varies, c_varies = (tl.constexpr(z is not None and z.dim() > 0) for z in self.zoneout)
        bias, bias_hn = self.biases
        return structures.Values(
            slabs["products"], inputs, index, p.inputs, bias, bias_hn, beta, slabs.get("cells"), states, self.rows,
            self.mask, zoneout_h, zoneout_c, h_varies, c_varies, sites,
        )  # fmt: skip

    def chunks(self) -> Iterator[tuple[int, int]]:
        """First and last steps of what is there at once."""
        p = self.plan
        return ((start, min(start + p.chunk, p.steps)) for start in range(0, p.steps, p.chunk))

    def input_slab(self) -> Tensor | None:
        """Where the input's products go, if they are kept apart; of one-hot rows it is the weight."""
        p = self.plan
        if p.adds:
            return None
        if p.one_hot and not p.over_sequence:
            return self.weight_ih.t().contiguous()
        return self.new(p.chunk, p.batch, p.width, dtype=p.product)

    def fill_inputs(self, slab: Tensor, first: int, start: int, stop: int) -> None:
        """The input's products of steps ``start`` to ``stop``, from ``slab[first]`` on."""
        p = self.plan
        to = slab[first : first + stop - start].view(-1, p.width)
        if p.one_hot:
            to.copy_(F.embedding(self.x[start:stop].reshape(-1), self.weight_ih.t()))
        else:
            torch.mm(self.x[start * p.batch : stop * p.batch], self.weight_ih.t(), out=to)

    def all_valid_rows(self) -> tuple[Tensor | None, Any]:
        """Which rows of all steps, one after the other, are valid, ``(T B, 1)`` or None for all; and how many."""
        p = self.plan
        if self.rows is None:
            return None, p.steps * p.batch
        valid = torch.arange(p.batch, device=self.x.device) < self.rows[:-1, None]
        return valid.view(-1, 1), self.rows.sum()

    def take_of_sequence(self, inputs: Tensor, site: structures.Site) -> None:
        """Statistics of the input's products over all steps."""
        p = self.plan
        flat = inputs.view(-1, p.width)
        valid, count = self.all_valid_rows()
        flat = flat.to(p.numbers) if valid is None else flat.to(p.numbers).masked_fill(~valid, 0)
        mean = flat.sum(0) / count
        deviation = flat - mean if valid is None else (flat - mean).masked_fill_(~valid, 0)
        rest = deviation.sum(0) / count
        var = (deviation.square_().sum(0) / count - rest.square()).clamp(min=0)
        for result, value in ((site.mean, mean + rest), (site.var, var)):
            result.copy_(self.in_blocks_vector(value))

    def in_blocks_vector(self, vector: Tensor) -> Tensor:
        """From ``(H, G)`` to ``(G, H)``."""
        return in_blocks(vector.unsqueeze(1), self.cell.gates).squeeze(1)

    def interleaved_vector(self, vector: Tensor) -> Tensor:
        return interleaved(vector.reshape(-1, 1), self.cell.gates).squeeze(1)

    def gradient_over_sequence(self, grads: Tensor, inputs: Tensor, site: structures.Site) -> Tensor:
        """From the gradient by known statistics to that which goes through them, ``(T B, G H)``."""
        p = self.plan
        grads, flat = grads.view(-1, p.width), inputs.view(-1, p.width)
        valid, count = self.all_valid_rows()
        mean, var = self.interleaved_vector(site.mean), self.interleaved_vector(site.var)
        white = (flat.to(p.numbers) - mean) * torch.rsqrt(var + site.eps)
        if valid is not None:
            white.masked_fill_(~valid, 0)
        along = (grads * white).sum(0) / count
        mean_grad = (grads.sum(0) - along * white.sum(0)) / count
        result = grads - mean_grad - white.mul_(along)
        return result if valid is None else result.masked_fill_(~valid, 0)


def forward(*arguments: Any) -> tuple[Tensor, ...]:
    """``bnrnn::recurrence``."""
    *own, keep = arguments
    _, x, h0, c0, _, weight_hh, *_ = own
    with torch.cuda.device_of(x):
        lay = Layout(own, keep)
        p = lay.plan
        saved = lay.new(sum(p.sizes()))
        slabs = p.cut(saved, fresh=True)
        statistics = lay.new(layout.statistics_size(lay.numbers, lay.cell, p.steps, p.units))
        sites, beta = lay.sites(statistics, None)
        inputs = lay.input_slab()
        values = lay.values(slabs, inputs, sites, beta)
        results = structures.Results(
            slabs["operand"], slabs.get("states"), lay.new(p.steps, p.batch, p.outputs, dtype=weight_hh.dtype),
            owned(h0), lay.new(0, p.units) if c0 is None else owned(c0), slabs.get("inner"),
        )  # fmt: skip
        slabs["operand"][0].copy_(h0 if lay.mask is None else h0 * lay.mask)
        for name, state in (("cells", c0), ("states", h0)):
            if state is not None and name in slabs:
                slabs[name][0].copy_(state)

        products, operand = slabs["products"].unbind(0), slabs["operand"].unbind(0)
        inner = slabs["inner"].unbind(0) if p.projected else ()
        projected = lay.new(p.batch, p.outputs, dtype=p.product) if p.projected else None
        weight = lay.weight_hh.t()
        kernel: Any = step.forward[lay.grid]
        fused = Fused(lay.choice, lay.cell, lay.grid, lay.tile, lay.weight_hh)
        for start, stop in lay.chunks():
            if p.adds:
                lay.fill_inputs(slabs["products"], start % p.product_steps, start, stop)
            elif values.index is None and inputs is not None:
                lay.fill_inputs(inputs, 0, start, stop)
            if p.over_sequence and inputs is not None:
                lay.take_of_sequence(inputs, sites.input)
            if fused.does_products:
                fused.forward(values, results, lay.shape, start, stop)
                continue
            for t in range(start, stop):
                product = products[t % p.product_steps]
                if p.adds:
                    product.addmm_(operand[t % p.state_steps], weight)
                else:
                    torch.mm(operand[t % p.state_steps], weight, out=product)
                kernel(
                    values, results, t, *lay.shape, CELL=lay.cell.number, TILED=lay.tiled,
 num_warps=lay.choice.warps, **lay.tile,
                )  # fmt: skip
                if lay.weight_hr is not None:
                    torch.mm(inner[t % p.product_steps], lay.weight_hr.t(), out=projected)
                    step.project_forward[lay.outputs_grid](
                        values, results, projected, t, *lay.outputs_shape, **lay.outputs_tile
                    )
    return results.output, results.h_n, results.c_n, statistics, saved if keep else lay.new(0)


class Total:
    """A weight's gradient, added up over chunks of rows in full precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.value: Tensor | None = None

    def add(self, gradient: Tensor, operand: Tensor) -> None:
        """``gradient^T operand``."""
        if self.value is not None and self.value.dtype == operand.dtype:
            self.value.addmm_(gradient.t(), operand)
            return
        product = torch.mm(gradient.t(), operand).to(self.dtype)
        self.value = product if self.value is None else self.value.add_(product)


def backward(*arguments: Any) -> tuple[Tensor, ...]:
    """``bnrnn::recurrence_backward``."""
    grad_output, grad_h_n, grad_c_n, statistics, saved, *own, need_x = arguments
    x, weight_ih, weight_hh, weight_hr = own[1], own[4], own[5], own[8]
    with torch.cuda.device_of(x):
        lay = Layout(own, True)
        p, cell = lay.plan, lay.cell
        slabs = p.cut(saved)
        inputs = lay.input_slab()
        sizes = [*layout.sizes(cell, p.units), p.units]
        features = sum(sizes) + p.width + (p.units if cell.has_reset else 0)
        of_features = lay.new(lay.row_blocks, features).zero_()
        sites, beta = lay.sites(statistics, of_features)
        values = lay.values(slabs, inputs, sites, beta)
        bias, bias_hn = lay.biases
        after_sites = of_features[0, sum(sizes) :]
        products = lay.new(p.chunk, p.batch, p.width, dtype=p.product)
        grad_inputs = products
        if p.apart:
            grad_inputs = lay.new(p.chunk, p.batch, p.width, dtype=p.numbers if p.over_sequence else p.product)
        grads = structures.Gradients(
            None if grad_output is None else grad_output.contiguous(),
            lay.new(p.batch, p.outputs, dtype=p.product).zero_(),
            lay.new(p.batch, p.outputs).zero_() if grad_h_n is None else owned(grad_h_n),
            (lay.new(p.batch, p.units).zero_() if grad_c_n is None else owned(grad_c_n)) if cell.has_cell else None,
            products,
            grad_inputs if p.apart else None,
            None if bias is None else after_sites,
            None if bias_hn is None else after_sites[p.width :],
            None if beta is None else of_features[0, sum(sizes[:-1]) :],
            lay.new(p.chunk, p.batch, p.outputs, dtype=p.product) if p.projected else None,
            lay.new(p.batch, p.units, dtype=p.product) if p.projected else None,
        )
        of_inputs, of_states, of_projection = Total(p.numbers), Total(p.numbers), Total(p.numbers)
        grad_x = lay.new(p.steps * p.batch if need_x else 0, p.inputs, dtype=weight_ih.dtype)
        of_classes = lay.new(p.inputs, p.width).zero_() if p.one_hot else None
        kernel: Any = step.backward[lay.grid]
        fused = Fused(lay.choice, cell, lay.grid, lay.tile, lay.weight_hh.t())
        for start, stop in reversed(list(lay.chunks())):
            if values.index is None and inputs is not None:
                lay.fill_inputs(inputs, 0, start, stop)
            if fused.does_products:
                fused.backward(values, grads, lay.shape, start, stop, features)
            for t in () if fused.does_products else reversed(range(start, stop)):
                if lay.weight_hr is not None:
                    step.project_backward[lay.outputs_grid](values, grads, t, *lay.outputs_shape, **lay.outputs_tile)
                    torch.mm(grads.projected[t - start], lay.weight_hr, out=grads.inner)
                kernel(
                    values,
                    grads,
                    t,
                    *lay.shape,
                    features,
                    CELL=cell.number,
                    TILED=lay.tiled,
                    num_warps=lay.choice.warps,
                    **lay.tile,
                )
                torch.mm(products[t - start], lay.weight_hh, out=grads.product)
            steps, rows = stop - start, (stop - start) * p.batch
            of_states.add(products[:steps].view(rows, -1), slabs["operand"][start:stop].reshape(rows, -1))
            if lay.weight_hr is not None:
                of_projection.add(grads.projected[:steps].view(rows, -1), slabs["inner"][start:stop].reshape(rows, -1))
            flat = grad_inputs[:steps].view(rows, -1)
            if p.over_sequence and inputs is not None:
                flat = lay.gradient_over_sequence(flat, inputs, sites.input).to(p.product)
            if of_classes is not None:
                of_classes.index_add_(0, lay.x[start:stop].reshape(-1), flat.to(p.numbers))
            else:
                of_inputs.add(flat, lay.x[start * p.batch : stop * p.batch])
            if need_x:
                grad_x[start * p.batch : stop * p.batch] = flat @ lay.weight_ih
        if fused.does_products:
            torch.mm(products[0], lay.weight_hh, out=grads.product)
        grad_h0 = grads.product.to(p.numbers)
        if lay.mask is not None:
            grad_h0 = grad_h0 * lay.mask
        grad_h0 = grad_h0 + grads.h
        of_features = of_features.sum(0) if lay.row_blocks > 1 else of_features[0]
        grad_ih = of_inputs.value if of_classes is None else of_classes.t().contiguous()
        assert grad_ih is not None
        assert of_states.value is not None
        return (
            grad_x.view(p.steps if need_x else 0, p.batch, p.inputs),
            grad_h0,
            lay.new(0, p.units) if grads.c is None else grads.c,
            in_blocks(grad_ih, cell.gates).to(weight_ih.dtype),
            in_blocks(of_states.value, cell.gates).to(weight_hh.dtype),
            of_features[sum(sizes) :].clone(),
            lay.new(0, dtype=weight_hh.dtype)
            if of_projection.value is None
            else of_projection.value.to(weight_hr.dtype),
            of_features[: sum(sizes)].clone(),
        )
