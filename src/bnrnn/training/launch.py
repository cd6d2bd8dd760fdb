"""Several processes on a machine that compute a run together, and one that watches over them."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from types import FrameType
from typing import Any, Literal, NamedTuple

import torch

from bnrnn.training.checkpoint import RunError

GRACE = 10.0
"""Seconds that the other processes have to end by themselves when one has ended before its time."""


def node() -> int:
    """Which of the machines this is, as the environment variable ``NODE_RANK`` says."""
    return int(os.environ.get("NODE_RANK", "0"))


def leads() -> bool:
    """Whether this is the process that writes the files and shows the run: the first of the first machine."""
    return node() == 0 and os.environ.get("LOCAL_RANK", "0") == "0"


def launch(work: Callable[[], Any], count: int, nodes: int) -> Any:
    """Let ``count`` processes of this machine do a work, and return what the first of them does.

    A SIGINT, SIGTERM or SIGHUP that comes here goes on to all of them, as a SIGTERM; so do those of a terminal, whose
    SIGINT they themselves leave alone. If this process ends, they end.

    Args:
        work: can be pickled; it finds the environment that ``torch.distributed`` needs.
        count: processes here.
        nodes: machines; with several, ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` have to be in the environment.

    Raises:
        RunError: a process was killed, or the environment says nothing of the other machines.
        Exception: what a process has raised. The others are ended.
    """
    place = _meeting_place(nodes)
    context = multiprocessing.get_context("spawn")
    children: dict[Connection, Any] = {}
    for index in range(count):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(work, sender, {**place, "LOCAL_RANK": str(index)}))
        children[receiver] = child
        child.start()
        sender.close()
    with _relayed([*children.values()]) as asked:
        ends = _ends(children, asked)
    if all(end.kind == "done" for end in ends):
        return next(end.value for end in ends if end.process == 0)
    errors = [end.value for end in ends if end.kind == "error"]
    lost = next((end for end in ends if end.kind == "lost"), None)
    if lost is not None and not asked:
        code = lost.value
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        raise RunError(
            f"process {lost.process} of {count} {how}, and the others were stopped; the last checkpoint is kept, and"
            " --resume goes on from it"
        )
    if errors and lost is None:  # one process's own error makes the others fail at their next exchange
        raise min(errors, key=_is_of_an_exchange)
    raise KeyboardInterrupt


def _meeting_place(nodes: int) -> dict[str, str]:
    if nodes > 1:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
        if missing:
            raise RunError(
                f"--nodes {nodes} needs {', '.join(missing)} in the environment: the address and a free port of the"
                " first machine, and the number of this one, from 0"
            )
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}


class _End(NamedTuple):
    """How a process came to its end: ``done`` with a result, by an ``error``, ``lost`` with an exit code, or
    ``stopped`` because of another.
    """

    process: int
    kind: Literal["done", "error", "lost", "stopped"]
    value: Any = None


def _ends(children: dict[Connection, Any], asked: list[int]) -> list[_End]:
    """In the order in which they came."""
    ends: list[_End] = []
    running, deadline = dict(enumerate(children)), math.inf
    while running:
        late = time.monotonic() > deadline
        ready = [*running.values()] if late else wait([*running.values()], 0.5)
        for index, receiver in [*running.items()]:
            if receiver not in ready:
                continue
            if late:
                children[receiver].kill()
            try:
                done, value = receiver.recv()
                ends.append(_End(index, "done" if done else "error", value))
            except EOFError:
                children[receiver].join()
                ends.append(_End(index, "stopped" if late else "lost", children[receiver].exitcode))
            del running[index]
        failed = len(asked) > 1 or any(end.kind != "done" for end in ends)
        deadline = min(deadline, time.monotonic() + GRACE) if failed else deadline
    for receiver, child in children.items():
        child.join(GRACE)
        child.kill()
        child.join()
        child.close()
        receiver.close()
    return ends


def _is_of_an_exchange(error: BaseException) -> bool:
    return type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)


def _child(work: Callable[[], Any], sender: Connection, place: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(place)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = True, work()
    except BaseException as error:
        outcome = False, ExceptionWithTraceback(error, error.__traceback__)
    try:
        sender.send(outcome)
    except Exception:  # an error that cannot be pickled
        sender.send((False, RuntimeError(traceback.format_exc())))
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _relayed(children: list[Any]) -> Iterator[list[int]]:
    """Signals go on to the children; which came is in the list."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def relay(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for child in children:
            if child.is_alive():
                child.terminate()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [n for n in (getattr(signal, name) for name in names) if signal.getsignal(n) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, relay) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
