"""A run's folder: its config, data digests, environment, metrics, checkpoints, selected model and result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
from torch import Tensor

from bnrnn.training import checkpoint, settings
from bnrnn.training.checkpoint import RunError, write_atomically

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


class RunFolder:
    """The files of one run.

    ==========================  =======================================================================
    ``config.json``             the experiment and every one of its options
    ``config.toml``             these options as ``bnrnn run --config`` takes them
    ``sources.json``            the SHA-256 of the data that it was trained on
    ``environment.json``        one entry for each time the run was started: versions, machine, command
    ``metrics.jsonl``           training and evaluation rows
    ``checkpoint.safetensors``  everything needed to go on, and the best model so far
    ``previous.safetensors``    the checkpoint before that one, to go back to should it be damaged
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
        self.options = path / "config.toml"
        self.sources = path / "sources.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.previous = path / "previous.safetensors"
        self.model = path / "model.safetensors"
        self.result = path / "result.json"
        self.divergence = path / "divergence.json"
        self._lock = filelock.FileLock(path / ".lock", timeout=0, thread_local=False)
        self._created = False

    def __reduce__(self) -> tuple[type[RunFolder], tuple[Path]]:
        """Another process has the folder without the lock."""
        return RunFolder, (self.path,)

    def open(self, config: dict[str, Any], resume: bool, upgrade: Upgrade = dict) -> dict[str, list[Any]]:
        """Takes the folder for a new run, or for going on with the one it holds; no other process can until
        :meth:`close`.

        Args:
            config: what the run is to be; its ``evaluation_options`` name the options that may differ from the held
                run's, since they touch no training.
            resume: whether to go on with the run that the folder holds.
            upgrade: brings the ``config.json`` of an earlier version to this one's.

        Returns:
            The evaluation options that differ from the held run's: its value and the new one, by name.

        Raises:
            RunError: see :meth:`check`; another process is at work in the folder, or it cannot be written.
        """
        try:
            created = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._created = created
            self._take_lock()
            return self.check(config, resume, upgrade)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise RunError(
                f"cannot write the run folder {self.path} ({error.strerror or error}); name another one with --run-dir"
            ) from error

    def check(self, config: dict[str, Any], resume: bool, upgrade: Upgrade = dict) -> dict[str, list[Any]]:
        """As :meth:`open`, of a folder that is to be left as it is.

        Raises:
            RunError: the folder holds a run and ``resume`` is false, a run of another config, or the results of a run
                whose config or checkpoint is gone.
        """
        kept = [path.name for path in (self.result, self.model, self.metrics) if _has_content(path)]
        saved = [path.name for path in self.saved()]
        if not self.config.exists():
            if kept or saved:
                raise RunError(
                    f"{self.path} holds {', '.join(saved + kept)} of a run, but no config.json;"
                    " name another folder with --run-dir, or delete this one"
                )
            return {}
        if not resume:
            raise RunError(
                f"{self.path} holds a run already; go on with it by --resume, or name another folder with --run-dir"
            )
        if kept and not saved:
            raise RunError(
                f"{self.path} holds {', '.join(kept)} of a run, but its checkpoint is gone; put it back,"
                " or name another folder with --run-dir"
            )
        return self._changes(config, upgrade)

    def begin(self, config: dict[str, Any], sources: dict[str, str], changed: bool = False) -> None:
        """Writes the config and the data's digests, once everything else about the start is known to be well.

        Args:
            config: what ``config.json`` is to hold.
            sources: digests of the data, by name.
            changed: whether to replace the config of the run that the folder holds.
        """
        if changed or not self.config.exists():
            self.write_json(self.config, config)
            write_atomically(self.options, settings.to_toml(config).encode())
        if not self.sources.exists():  # a new run, or one of a version that kept no digests
            self.write_json(self.sources, sources)

    def close(self) -> None:
        """Lets other processes at the folder. One that was made in vain goes."""
        self._lock.release(force=True)
        if self._created and not self.config.exists():
            (self.path / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something lies in it
                self.path.rmdir()

    def check_sources(self, sources: dict[str, str]) -> None:
        """Compares digests of the data at hand with those of the data that the run was trained on.

        Raises:
            RunError: they differ.
        """
        if not self.sources.exists():
            return
        held = self.read_json(self.sources, dict)
        if [*held.values()] == [*sources.values()]:  # a file may have been moved or renamed
            return
        names = [name for name, digest in sources.items() if held.get(name) != digest]
        names += [name for name in held if name not in sources]
        raise RunError(
            f"{', '.join(names)}: not the data that the run in {self.path} was trained on; {self.sources} has the"
            " SHA-256 of those. Put them back, or train anew in another folder"
        )

    def saved(self) -> list[Path]:
        """The checkpoints that there are, the newest first."""
        return [path for path in (self.checkpoint, self.previous) if path.exists()]

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any], str]:
        """The newest whole checkpoint, and a line to be told where that is not the newest one.

        A damaged one is renamed and the one before it takes its place.

        Raises:
            RunError: there is no whole one.
        """
        try:
            return *checkpoint.load(self.checkpoint), ""
        except (RunError, FileNotFoundError) as error:
            if not self.previous.exists():
                raise
            try:
                tensors, facts = checkpoint.load(self.previous)
            except RunError:
                raise error from None
            reason = f"{self.checkpoint} is missing"
            if isinstance(error, RunError):
                damaged = self.checkpoint.with_suffix(".damaged")
                self.checkpoint.replace(damaged)
                reason = f"{self.checkpoint} was damaged and is now {damaged.name}"
            self.previous.replace(self.checkpoint)
            return tensors, facts, f"{reason}; going on from the checkpoint before it, of update {facts['update']:,}"

    def forget_best(self) -> None:
        """Takes the best model so far out of the checkpoint, for the rest of the run to choose anew."""
        tensors, facts, _ = self.load_checkpoint()
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("best/")}
        checkpoint.save(self.checkpoint, kept, {**facts, "best": None, "waited": 0}, self.previous)

    def read_config(self) -> dict[str, Any]:
        """The config of the run that the folder holds.

        Raises:
            RunError: there is none, or it is damaged.
        """
        if not self.config.is_file():
            raise RunError(f"{self.path} is not a run folder: it has no config.json")
        config = self.read_json(self.config, dict)
        if not {"experiment", "config", "precision"} <= config.keys() or not isinstance(config["config"], dict):
            raise RunError(
                f"{self.config} is damaged: it does not say what was run; delete the run folder to start afresh"
            )
        return config

    def read_json(self, path: Path, kind: type[Any] = object) -> Any:
        """What a JSON file of the folder holds.

        Raises:
            RunError: it is damaged, or holds something else than a ``kind``.
        """
        try:
            content = json.loads(path.read_text())
            if not isinstance(content, kind):
                raise ValueError(f"it holds a {type(content).__name__}, not a {kind.__name__}")
            return content
        except ValueError as error:  # of JSON and of Unicode as well
            raise RunError(f"{path} is damaged ({error}); delete the run folder to start afresh") from error

    def write_json(self, path: Path, content: Any) -> None:
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")

    def add_environment(self, facts: dict[str, Any]) -> None:
        """Adds one start of the run to ``environment.json``."""
        earlier = self.read_json(self.environment, list) if self.environment.exists() else []
        self.write_json(self.environment, [*earlier, facts])

    def _changes(self, config: dict[str, Any], upgrade: Upgrade) -> dict[str, list[Any]]:
        held, wanted = self.read_config(), json.loads(json.dumps(config))
        if held["experiment"] == wanted["experiment"]:
            held = upgrade(held)
        else:
            self._refuse(f"experiment {held['experiment']}, not {wanted['experiment']}")
        a, b = ({**facts["config"], "precision": facts["precision"]} for facts in (held, wanted))
        changes = {name: [a.get(name), b.get(name)] for name in {**a, **b} if a.get(name) != b.get(name)}
        fixed = [name for name in changes if name not in wanted.get("evaluation_options", ())]
        if fixed:
            self._refuse(", ".join(f"{name} {changes[name][0]}, not {changes[name][1]}" for name in fixed))
        return changes

    def _refuse(self, difference: str) -> None:
        raise RunError(
            f"{self.path} holds a run of another config ({difference});"
            " repeat its options or name another folder with --run-dir"
        )

    def _take_lock(self) -> None:
        """A lock that the system drops with the process, however that ends."""
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise RunError(f"another process trains in {self.path}; wait for it or name another folder") from None


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
