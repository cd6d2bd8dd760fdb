"""Every operator given every tensor in a wrong shape, dtype, device or layout: an error, nothing written, no crash.

A crash would end the test run, so test_operators.py runs this file in a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bnrnn import ops
from bnrnn.ops import layout, loading
from bnrnn.ops import step as stream
from bnrnn.ops.cells import NUMBERED, Cell
from bnrnn.ops.sites import Site, Sites

T, B, I, H, R = 5, 4, 3, 6, 5  # noqa: E741
ERRORS = (RuntimeError, ValueError, NotImplementedError)


def wrong_versions(t: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What must be refused in place of this tensor. (Strides of any kind are allowed and tested elsewhere.)"""
    for d in range(t.dim()):
        yield f"one more along {d}", torch.cat((t, t.narrow(d, 0, 1)), d)
        if t.shape[d] > 1:
            yield f"one less along {d}", t.narrow(d, 0, t.shape[d] - 1)
            yield f"broadcast along {d}", t.narrow(d, 0, 1)
        yield f"none along {d}", t.narrow(d, 0, 0)
    if t.dim():
        yield "one dimension less", t[0]
    yield "one dimension more", t.unsqueeze(0)
    yield "flat and enormous", t.new_zeros(1).expand(1 << 40)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool):
        if dtype != t.dtype:
            yield str(dtype), t.to(dtype)
    yield "complex", t.to(torch.complex64)
    yield "meta", t.to("meta")
    if (t.dim() and not t.is_floating_point()) or t.dim() == 2:
        yield "sparse", t.to_sparse()


def sites_of(cell: Cell, population: bool) -> Sites:
    def site(kind: Any, n: int) -> Site:
        rows = 1 if kind == "sequence" else T
        known = population and kind in ("frame", "sequence")
        return Site(
            kind, torch.rand(n), torch.rand(n) if n == H and cell.has_cell else None,
            mean=torch.rand(rows, n) if known else None, var=torch.rand(rows, n) if known else None,
        )  # fmt: skip

    width = cell.gates * H
    return (
        Sites(site("sequence", width), site("frame", width), site("layer", width))
        if not cell.has_cell
        else Sites(site("sequence", width), site("frame", width), site("layer", width), site("frame", H))
    )


def forward_arguments(cell: Cell, one_hot: bool, population: bool, outputs: int = H) -> list[Any]:
    width = cell.gates * H
    x = torch.randint(I, (T, B)) if one_hot else torch.rand(T, B, I)
    tensors, numbers, eps = layout.flatten(sites_of(cell, population))
    return [
        cell.number, x, torch.rand(B, outputs), torch.rand(B, H) if cell.has_cell else None, torch.rand(width, I),
        torch.rand(width, outputs), torch.rand(width), torch.rand(H) if cell.has_reset else None,
        torch.rand(outputs, H) if outputs < H else None, tensors, numbers, eps, torch.tensor([4, 4, 3, 2, 1]),
        torch.rand(B, outputs), torch.rand(T, B, outputs), torch.rand(T, B, H) if cell.has_cell else None, False, True,
    ]  # fmt: skip


def spoilt(arguments: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The arguments with one of them wrong."""
    for i, argument in enumerate(arguments):
        if isinstance(argument, Tensor):
            for name, wrong in wrong_versions(argument):
                yield f"argument {i}: {name}", [*arguments[:i], wrong, *arguments[i + 1 :]]
        elif isinstance(argument, list) and argument and isinstance(argument[0], Tensor):
            for j, t in enumerate(argument):
                for name, wrong in wrong_versions(t):
                    changed = [*argument[:j], wrong, *argument[j + 1 :]]
                    yield f"argument {i}[{j}]: {name}", [*arguments[:i], changed, *arguments[i + 1 :]]
            yield f"argument {i}: one less", [*arguments[:i], argument[:-1], *arguments[i + 1 :]]
            yield f"argument {i}: one more", [*arguments[:i], [*argument, argument[0]], *arguments[i + 1 :]]


def refused(operator: Callable[..., Any], cases: Iterator[tuple[str, list[Any]]], kept: Any = lambda: ()) -> int:
    """How many wrong calls were refused with nothing changed; every one has to be."""
    count = 0
    for name, arguments in cases:
        before = [t.clone() for t in kept()]
        try:
            operator(*arguments)
        except ERRORS:
            pass
        else:
            pytest.fail(f"{name} was taken")
        assert all(torch.equal(a, b) for a, b in zip(before, kept(), strict=True)), name
        count += 1
    return count


def fits(name: str, place: int, one_hot: bool) -> bool:
    """Whether the weight of the input, at this place, is one of another number of one-hot inputs."""
    return one_hot and re.fullmatch(rf"argument {place}: (one more|one less|broadcast) along 1", name) is not None


WIDTHS = pytest.mark.parametrize(("cell", "outputs"), [*((c, H) for c in NUMBERED), (NUMBERED[0], R)])


@pytest.fixture(autouse=True)
def _kernels() -> None:
    assert loading.why_not() is None


@pytest.fixture(params=NUMBERED, ids=lambda cell: cell.name)
def cell(request: pytest.FixtureRequest) -> Cell:
    return request.param


@pytest.mark.parametrize("population", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
@WIDTHS
def test_forward(cell: Cell, outputs: int, one_hot: bool, population: bool) -> None:
    arguments = forward_arguments(cell, one_hot, population, outputs)
    torch.ops.bnrnn.recurrence(*arguments)
    cases = ((n, a) for n, a in spoilt(arguments) if not fits(n, 4, one_hot))
    assert refused(torch.ops.bnrnn.recurrence, cases) > 150


@pytest.mark.parametrize("one_hot", [False, True])
@WIDTHS
def test_backward(cell: Cell, outputs: int, one_hot: bool) -> None:
    *arguments, _ = forward_arguments(cell, one_hot, False, outputs)
    output, h_n, c_n, statistics, saved = torch.ops.bnrnn.recurrence(*arguments, True)
    own = [output, h_n, c_n if cell.has_cell else None, statistics, saved, *arguments, True]
    torch.ops.bnrnn.recurrence_backward(*own)
    # the initial state is for the reference alone: the kernels look only where it is
    cases = (
        (n, a)
        for n, a in spoilt(own)
        if not fits(n, 9, one_hot) and (not n.startswith(("argument 7:", "argument 8:")) or "meta" in n)
    )
    assert refused(torch.ops.bnrnn.recurrence_backward, cases) > 150


NUMBERS: list[tuple[str, int, list[int]]] = [
    ("unknown kind", 0, [5]),
    ("negative kind", 0, [-1]),
    ("unknown flags", 1, [8]),
    ("no rows", 2, [0]),
    ("more rows than there are", 2, [21]),
    ("statistics over the sequence inside the recurrence", 3, [2]),
    ("an offset before the product", 1, [3]),
    ("a shift of the input", 0, [4]),
]


@pytest.mark.parametrize(("name", "place", "values"), NUMBERS, ids=[n for n, *_ in NUMBERS])
def test_numbers_of_sites(cell: Cell, name: str, place: int, values: list[int]) -> None:
    arguments = forward_arguments(cell, False, False)
    numbers = list(arguments[10])
    numbers[place : place + len(values)] = values
    arguments[10] = numbers
    with pytest.raises(RuntimeError, match=r"bnrnn: (site|site_tensors)"):
        torch.ops.bnrnn.recurrence(*arguments)


@pytest.mark.parametrize("count", [0, 11, 13, 16])
def test_too_few_or_many_numbers(cell: Cell, count: int) -> None:
    arguments = forward_arguments(cell, False, False)
    arguments[10] = (list(arguments[10]) + [0] * 4)[:count]
    with pytest.raises(RuntimeError, match="site_layout must have 12 numbers"):
        torch.ops.bnrnn.recurrence(*arguments)


@pytest.mark.parametrize("number", [-1, 4, 1 << 40])
def test_unknown_cell(number: int) -> None:
    arguments = forward_arguments(NUMBERED[0], False, False)
    for operator, given in (
        (torch.ops.bnrnn.recurrence.default, arguments),
        (torch.ops.bnrnn.step.default, step_arguments(NUMBERED[0], False)),
    ):
        with pytest.raises((RuntimeError, IndexError)):
            operator(number, *given[1:])


@pytest.mark.parametrize("sizes", [[5, 4, 3, 2, 1], [4, 4, 3, 4, 1], [4, 4, 3, 2, -1], [-1] * 5, [1 << 62] * 5])
def test_values_of_batch_sizes(cell: Cell, sizes: list[int]) -> None:
    arguments = forward_arguments(cell, False, False)
    arguments[12] = torch.tensor(sizes)
    with pytest.raises(RuntimeError, match="batch_sizes must not increase and lie between 0 and 4"):
        torch.ops.bnrnn.recurrence(*arguments)


@pytest.mark.parametrize("empty", ["x", "steps", "units", "inputs"])
def test_nothing_to_do(cell: Cell, empty: str) -> None:
    """A batch of none has an answer; no steps, units or inputs have not."""
    steps, batch, inputs, units = (
        0 if empty == n else k for n, k in (("steps", 3), ("x", 2), ("inputs", 2), ("units", 2))
    )
    width = cell.gates * units
    h = torch.rand(batch, units)
    arguments = [
        cell.number, torch.rand(steps, batch, inputs), h, h if cell.has_cell else None, torch.rand(width, inputs),
        torch.rand(width, units), None, None, None, *layout.flatten(Sites()), None, None, None, None, False, True,
    ]  # fmt: skip
    if empty == "x":
        output, h_n, *_ = torch.ops.bnrnn.recurrence(*arguments)
        assert output.shape == (3, 0, 2)
        assert h_n.shape == (0, 2)
    else:
        with pytest.raises(RuntimeError, match="at least one"):
            torch.ops.bnrnn.recurrence(*arguments)


def step_arguments(cell: Cell, one_hot: bool, outputs: int = H) -> list[Any]:
    width = cell.gates * H
    table = torch.rand(7, 4 * width + 2 * H)
    packed = [stream._packed(torch.rand(width, n), cell.gates) for n in (I, outputs)]
    packed_hr = stream._packed(torch.rand(outputs, H), 1) if outputs < H else None
    x = torch.randint(I, (B,)) if one_hot else torch.rand(B, I)
    c = torch.rand(B, H) if cell.has_cell else None
    return [cell.number, x, torch.rand(B, outputs), c, *packed, packed_hr, table, 3, 0.0, 0.0]


@pytest.mark.parametrize("one_hot", [False, True])
@WIDTHS
def test_step(cell: Cell, outputs: int, one_hot: bool) -> None:
    arguments = step_arguments(cell, one_hot, outputs)
    torch.ops.bnrnn.step(*arguments)
    rows = ("argument 7: one more along 0", "argument 7: one less along 0")  # a table of any length
    cases = ((n, a) for n, a in spoilt(arguments) if n not in rows and not fits(n, 4, one_hot))
    assert refused(torch.ops.bnrnn.step, cases) > 40
    for row in (-1, 7, 1 << 60):
        with pytest.raises(RuntimeError, match="row must be from 0 to 6"):
            torch.ops.bnrnn.step(*arguments[:8], row, 0.0, 0.0)
    x, h, c, *rest = arguments[1:]
    new_h, _ = torch.ops.bnrnn.step(cell.number, x[:0], h[:0], None if c is None else c[:0], *rest)
    assert new_h.shape == (0, outputs)


@pytest.mark.parametrize("operator", [ops.average_, torch.ops.bnrnn.average_.default], ids=["function", "operator"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average(operator: Callable[..., Any], dtype: torch.dtype) -> None:
    table = [torch.rand(6, 3, dtype=dtype), torch.rand(6, 3, dtype=dtype), torch.arange(6)]
    good = [*table, torch.rand(4, 3, dtype=dtype), torch.rand(4, 3, dtype=dtype), 1, 0.1]
    operator(*[t.clone() if isinstance(t, Tensor) else t for t in good])
    # the function converts a batch of another precision
    floats = [str(d) for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)]
    is_function = operator is ops.average_
    cases = ((n, a) for n, a in spoilt(good) if not (is_function and n[9] in "34" and n.split(": ")[1] in floats))
    assert refused(operator, cases, lambda: table) > 60
    numbers = [(-1, 0.1), (3, 0.1), (1 << 62, 0.1), (1, -0.1), (1, 1.5), (1, float("nan"))]
    assert refused(operator, (("numbers", [*good[:5], *n]) for n in numbers), lambda: table) == 6


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("how", ["expanded", "trained", "inference"])
def test_tables_that_cannot_be_written(place: int, how: str) -> None:
    table: list[Tensor] = [torch.rand(6, 3), torch.rand(6, 3), torch.arange(6)]
    if how == "trained" and place == 2:
        return
    if how == "expanded":
        table[place] = table[place][:1].expand(table[place].shape)
    elif how == "trained":
        table[place].requires_grad_()
    else:
        with torch.inference_mode():
            table[place] = table[place].clone()
    cases = (("", [*table, torch.rand(4, 3), torch.rand(4, 3), 1, 0.1]) for _ in range(1))
    assert refused(ops.average_, cases, lambda: table) == 1
