"""Batches built in a process of their own, ahead of those who wait for them."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, Protocol

import numpy as np

from bnrnn.data.registry import DataError

_AHEAD = 4
Indices = Sequence[int] | np.ndarray


class Batches(Protocol):
    """What can build batches; goes to another process as it is."""

    def batch(self, indices: Indices) -> Any: ...


class Loader:
    """Builds batches of several parts, a few ahead of the one that is asked for.

    Args:
        parts: by name.
        worker: whether another process builds them; it starts with the first batch.
    """

    def __init__(self, parts: Mapping[str, Batches], worker: bool = True) -> None:
        self._parts, self._worker = parts, worker
        self._executor: ProcessPoolExecutor | None = None

    def batches(self, part: str, plan: Iterable[Indices]) -> Iterator[Any]:
        """The batches of a plan, in its order; a plan without end is read as far as it is needed.

        Raises:
            DataError: the process was ended by something else. What building a batch raises is raised here as well.
        """
        if not self._worker:
            yield from (self._parts[part].batch(indices) for indices in plan)
            return
        executor = self._start()
        waiting: deque[Future[Any]] = deque()
        try:
            for indices in plan:
                waiting.append(executor.submit(_build, part, [int(index) for index in indices]))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "the process that builds the batches was ended; perhaps the memory did not suffice"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Ends the process."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(1, get_context("spawn"), _begin, (self._parts,))
            weakref.finalize(self, self._executor.shutdown, wait=False, cancel_futures=True)
        return self._executor


_parts: dict[str, Batches] = {}  # of the worker


def _begin(parts: Mapping[str, Batches]) -> None:
    _parts.update(parts)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process when it is done
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _build(part: str, indices: list[int]) -> Any:
    return _parts[part].batch(indices)
