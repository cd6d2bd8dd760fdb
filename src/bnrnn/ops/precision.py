"""In which precision a kernel computes, and a call's tensors brought into it."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrnn.ops import layout
from bnrnn.ops.sites import Sites


def product_dtype(weight: Tensor, device: str) -> torch.dtype:
    """The precision of the products: the weights', or in its place that of the device's autocast."""
    if weight.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype


class Precision:
    """Brings a call's tensors into the kernels' precision.

    For products in bfloat16 kernels that round have operands rounded to bfloat16 and compute in float32, where such
    products are exact; the state is rounded on its way into the recurrent product. Others have operands in the
    products' own precision and all else in float32.
    """

    def __init__(self, weight: Tensor, device: str, rounds: bool = True) -> None:
        self.product = product_dtype(weight, device)
        self.rounds = rounds
        self.kernel = torch.promote_types(self.product, torch.float32)
        self.bfloat16 = rounds and self.product == torch.bfloat16

    def operands(self, *tensors: Tensor) -> list[Tensor]:
        """Of the products; integers stay as they are."""
        dtype = self.kernel if self.rounds else self.product
        return [t.to(self.product).to(dtype) if t.is_floating_point() else t.long() for t in tensors]

    def others(self, *tensors: Tensor | None) -> list[Tensor | None]:
        """States, biases, masks."""
        return [t if t is None or t.dtype == self.kernel else t.to(self.kernel) for t in tensors]

    def sites(self, sites: Sites) -> tuple[list[Tensor], list[int], list[float]]:
        tensors, numbers, eps = layout.flatten(sites)
        return [t if t.dtype == self.kernel else t.to(self.kernel) for t in tensors], numbers, eps
