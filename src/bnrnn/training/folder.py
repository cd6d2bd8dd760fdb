"""A run's folder: its config, environment, metrics, checkpoint, selected model and result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from bnrnn.training.checkpoint import RunError, write_atomically


class RunFolder:
    """The files of one run.

    ==========================  =======================================================================
    ``config.json``             the experiment and every one of its options
    ``environment.json``        one entry for each time the run was started: versions, machine, command
    ``metrics.jsonl``           training and evaluation rows
    ``checkpoint.safetensors``  everything needed to go on, and the best model so far
    ``model.safetensors``       the selected model with its population statistics, at the end
    ``result.json``             the final evaluation
    ``divergence.json``         of a run whose loss or gradient was no longer finite: after which update, and why
    ==========================  =======================================================================

    Args:
        path: the folder; created by :meth:`open` only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.model = path / "model.safetensors"
        self.result = path / "result.json"
        self.divergence = path / "divergence.json"
        self._lock: IO[str] | None = None

    def open(self, config: dict[str, Any], resume: bool) -> None:
        """Takes the folder for a new run, or for going on with the one it holds.

        Raises:
            RunError: it holds a run and ``resume`` is false, it holds a run of another config, another process
                is at work in it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if self.config.exists():
                self._check(config, resume)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise RunError(
                f"cannot write the run folder {self.path} ({error.strerror or error}); name another one with --run-dir"
            ) from error

    def begin(self, config: dict[str, Any]) -> None:
        """Writes the config of a new run, once everything else about its start is known to be well."""
        if not self.config.exists():
            self.write_json(self.config, config)

    def close(self) -> None:
        """Lets other processes at the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_config(self) -> dict[str, Any]:
        """The config of the run that the folder holds.

        Raises:
            RunError: there is none.
        """
        if not self.config.is_file():
            raise RunError(f"{self.path} is not a run folder: it has no config.json")
        return self.read_json(self.config)

    def read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is damaged ({error}); delete the run folder to start afresh") from error

    def write_json(self, path: Path, content: Any) -> None:
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")

    def add_environment(self, facts: dict[str, Any]) -> None:
        """Adds one start of the run to ``environment.json``."""
        earlier = self.read_json(self.environment) if self.environment.exists() else []
        self.write_json(self.environment, [*earlier, facts])

    def _check(self, config: dict[str, Any], resume: bool) -> None:
        if not resume:
            raise RunError(
                f"{self.path} holds a run already; go on with it by --resume, or name another folder with --run-dir"
            )
        held = self.read_config()
        wanted = json.loads(json.dumps(config))
        if any(held.get(key) != wanted[key] for key in ("experiment", "config", "precision")):
            raise RunError(
                f"{self.path} holds a run of another config ({_difference(held, wanted)});"
                " repeat its options or name another folder with --run-dir"
            )

    def _take_lock(self) -> None:
        """A lock that the system drops with the process, however that ends."""
        lock = (self.path / ".lock").open("w")
        try:
            import fcntl
        except ModuleNotFoundError:  # a system without advisory locks
            lock.close()
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RunError(f"another process trains in {self.path}; wait for it or name another folder") from None
        self._lock = lock


def _difference(held: dict[str, Any], wanted: dict[str, Any]) -> str:
    if held["experiment"] != wanted["experiment"]:
        return f"experiment {held['experiment']}, not {wanted['experiment']}"
    a, b = ({**facts["config"], "precision": facts["precision"]} for facts in (held, wanted))
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return ", ".join(f"{name} {a.get(name)}, not {b.get(name)}" for name in names)
