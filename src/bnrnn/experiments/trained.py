"""What a run's parameters are without its data: a model, and a program that takes it out of the experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from bnrnn.data.corpus import Vocabulary


@dataclass(frozen=True)
class Trained:
    """A model that a run's parameters fit, and its program: one call without options, which can be exported.

    Args:
        model: the experiment's, with initial parameters.
        program: a module around the same parameters; it has population statistics and no random numbers.
        encode: makes the program's arguments of what people have.
        inputs: the program's arguments by name, and of each its free dimensions: the axis and a name.
        outputs: names of its results.
        example: arguments for so many rows, of which shapes can be seen.
        vocabulary: the symbols that indices stand for; None where there are none.
    """

    model: nn.Module
    program: nn.Module
    encode: Callable[..., tuple[Tensor, ...]]
    inputs: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    example: Callable[[int], tuple[Tensor, ...]]
    vocabulary: Vocabulary | None = None
