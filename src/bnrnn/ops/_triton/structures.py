"""What a launch gives to a kernel. Triton compiles a kernel anew for each set of tensors that are None."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl

# Cells by their number in ops/cells.py.
LSTM = tl.constexpr(0)
GRU = tl.constexpr(1)
RELU = tl.constexpr(3)

# What is done in one passage through a step. A batch of one tile goes through once. With more tiles statistics are
# merged first, one passage over all tiles for the sites that depend on no other's, and one for each further.
PRODUCTS = tl.constexpr(0)
SUM = tl.constexpr(1)
AFTER = tl.constexpr(2)
"""What comes after the sum: an LSTM's cell, a GRU's candidate."""
WRITE = tl.constexpr(3)
"""With all statistics known."""
ALL = tl.constexpr(4)

# How a site is normalized in a kernel.
NONE = tl.constexpr(0)
OWN = tl.constexpr(1)
"""By statistics of the step's own rows, or of the last step that had enough."""
KNOWN = tl.constexpr(2)
"""By a row of statistics for each step."""
WHOLE = tl.constexpr(3)
"""By one row of statistics for all steps."""
LAYER = tl.constexpr(4)
"""By statistics of each row."""


class Site(NamedTuple):
    """A normalized quantity of n features.

    Attributes:
        kind: one of the above.
        gamma: gain ``(n,)``, None for 1.
        mean, var: ``(T, n)``, ``(1, n)`` where they are of the whole sequence.
        eps, min_rows: as in :class:`bnrnn.ops.Site`.
        grad_gamma: what the gradient of the gain is added to, a part for each block of rows; None going forward.
        sums: working memory for a gradient's sums over the tiles of a batch, ``(3, n)``; None for a batch of one tile.
    """

    kind: Any
    gamma: Any
    mean: Any
    var: Any
    eps: Any
    min_rows: Any
    grad_gamma: Any
    sums: Any


class Sites(NamedTuple):
    """Of one call."""

    input: Site
    recurrent: Site
    summed: Site
    cell: Site


class Shape(NamedTuple):
    """Sizes. A kernel is compiled anew for none but by whether 16 divides ``batch`` and ``units``.

    Attributes:
        steps: T.
        product_steps, input_steps, state_steps: how many steps the slabs hold, of products, of input products and
            products' gradients, and of states.
        batch, units: B, H.
    """

    steps: Any
    product_steps: Any
    input_steps: Any
    state_steps: Any
    batch: Any
    units: Any


class Values(NamedTuple):
    """The forward pass as the backward pass reads it again. G gates, H units, R outputs.

    Attributes:
        products: ``W_hh h``, ``(product_steps, B, H, G)``; the input's is added in where ``inputs`` is None.
        inputs: ``W_ih x``, ``(input_steps, B, H, G)``; for one-hot rows the weight itself, ``(classes, H, G)``.
        index: one-hot rows, ``(T, B)``; None for others.
        classes: how many there are.
        bias: ``(G H,)``; bias_hn: ``(H,)``; beta: the cell site's offset, ``(H,)``.
        cells: c, ``(state_steps, B, H)``, the first before the first step.
        states: h as it was computed, ``(state_steps, B, R)``, the same; None where it is not needed.
        rows: valid rows at each step and 0, ``(T + 1,)``; None where all are.
        mask: on the state before the product, ``(B, R)``.
        zoneout_h, zoneout_c: ``(T, B, R)`` and ``(T, B, H)``, or one number each, as ``h_varies``, ``c_varies`` say.
        sites: the normalizations.
    """

    products: Any
    inputs: Any
    index: Any
    classes: Any
    bias: Any
    bias_hn: Any
    beta: Any
    cells: Any
    states: Any
    rows: Any
    mask: Any
    zoneout_h: Any
    zoneout_c: Any
    h_varies: Any
    c_varies: Any
    sites: Any


class Results(NamedTuple):
    """What the forward pass writes beside the values.

    Attributes:
        operand: the state as it enters the product, ``(state_steps, B, R)``.
        states: the state as it was computed, where it is needed and another.
        output: ``(T, B, R)``. h_n, c_n: the final state of each row.
        inner: what a projection projects, ``(product_steps, B, H)``; None where there is none.
    """

    operand: Any
    states: Any
    output: Any
    h_n: Any
    c_n: Any
    inner: Any


class Gradients(NamedTuple):
    """What the backward pass reads and writes beside the values.

    Attributes:
        output: of the outputs; None for 0.
        product: of h by the product of the step after, ``(B, R)``.
        h, c: of the state by other ways, carried from step to step, ``(B, R)`` and ``(B, H)``.
        products, inputs: of the products, ``(input_steps, B, H, G)``; ``inputs`` is None where it is the same.
        bias, bias_hn, beta: added to, as the gradients of gains, a part for each block of rows.
        projected: of what a projection gives, ``(input_steps, B, R)``.
        inner: of what it projects, ``(B, H)``; both None where there is none.
    """

    output: Any
    product: Any
    h: Any
    c: Any
    products: Any
    inputs: Any
    bias: Any
    bias_hn: Any
    beta: Any
    projected: Any
    inner: Any
