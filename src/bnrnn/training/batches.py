"""Rows in batches, and a text as sequences, as streams and as pieces."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bnrnn.training.seeding import Purpose, generator


class Sequences:
    """Non-overlapping sequences of a text from a random offset, in random order, anew for each epoch.

    Of the ``N // length`` sequences one is given up for the offset, which is less than a sequence. A sequence of
    ``length`` symbols gives ``length - 1`` predictions. The last batch of an epoch is smaller, but never has a
    single row, which would have no batch statistics: such a row joins the batch before.

    Args:
        text: indices, shape (N,).
        length: symbols in a sequence.
        batch_size: sequences in an update.
        seed: of offsets and orders.

    Raises:
        ValueError: the text is shorter than two sequences.
    """

    def __init__(self, text: Tensor, length: int, batch_size: int, seed: int) -> None:
        if length < 2:
            raise ValueError(f"length must be at least 2, got {length}")
        self.text, self.length, self.batch_size, self.seed = text, length, batch_size, seed
        self.count = len(text) // length - 1
        if self.count < 1:
            raise ValueError(
                f"the training text has {len(text):,} symbols, too few for sequences of {length:,}:"
                f" at least {2 * length:,} are needed"
            )
        whole, rest = divmod(self.count, batch_size)
        self.epoch_length = max(1, whole + (rest > 1))
        self._epoch: tuple[int, int, Tensor] = (-1, 0, torch.empty(0))

    def batch(self, epoch: int, position: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 of shape (length - 1, rows): each target is the symbol after its input."""
        if self._epoch[0] != epoch:
            random = generator(self.seed, Purpose.ORDER, epoch)
            offset = int(torch.randint(self.length, (), generator=random))
            self._epoch = (epoch, offset, torch.randperm(self.count, generator=random))
        _, offset, order = self._epoch
        last = position == self.epoch_length - 1
        rows = order[position * self.batch_size : None if last else (position + 1) * self.batch_size]
        starts = offset + rows * self.length
        return shifted(self.text[torch.arange(self.length).unsqueeze(1) + starts].long())


class Streams:
    """A text as parallel streams, read window by window with the state carried from one to the next.

    The text is cut into ``rows`` equal pieces; window k has the symbols ``[k * window, (k + 1) * window)`` of each.
    What is left over is dropped.

    Args:
        text: indices, shape (N,).
        rows: streams.
        window: predictions of a stream in one step of truncated back-propagation.

    Raises:
        ValueError: the text does not fill one window.
    """

    def __init__(self, text: Tensor, rows: int, window: int) -> None:
        length = len(text) // rows
        self.window = window
        self.count = (length - 1) // window
        if self.count < 1:
            raise ValueError(
                f"the text has {len(text):,} symbols, too few for {rows} streams with windows of {window}:"
                f" at least {rows * (window + 1):,} are needed"
            )
        self.symbols = text[: rows * length].view(rows, length).t()

    def batch(self, position: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a window, int64 of shape (window, rows)."""
        start = position * self.window
        return shifted(self.symbols[start : start + self.window + 1].long())


def pieces(
    text: Tensor, length: int, batch_size: int, order: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """A text in pieces of ``length`` symbols, for evaluation; what is left over at its end is dropped.

    Args:
        text: indices, shape (N,).
        length: symbols of a piece.
        batch_size: pieces of a batch.
        order: draws the order of the pieces; None for the text's own.

    Returns:
        Batches of inputs and targets, shape (length - 1, rows), in the text's own dtype; see :func:`batched`.

    Raises:
        ValueError: the text is shorter than a piece.
    """
    count = len(text) // length
    if count < 1:
        raise ValueError(f"the text has {len(text):,} symbols, too few for one piece of {length:,}")
    rows = text[: count * length].view(count, length)
    places = torch.arange(count) if order is None else torch.randperm(count, generator=order)
    return (shifted(rows[place].t()) for place in batched(places, batch_size))


def batched(rows: Tensor, size: int) -> list[Tensor]:
    """Rows in batches of a size, the last one smaller; a single row, which has no batch statistics, is joined to the
    batch before.
    """
    batches = list(rows.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def shifted(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of symbols (T + 1, rows): all but the last, and all but the first."""
    return symbols[:-1], symbols[1:]
