"""Where metrics can go beside ``metrics.jsonl``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger

from bnrnn.training.checkpoint import RunError

CSV_ROWS = 10_000  # rows kept in memory at most; the loop saves them with each checkpoint


def csv_logger(path: Path) -> Logger:
    """``csv/version_N/metrics.csv`` below a run folder, one for each start of the run."""
    return CSVLogger(path, name="csv", flush_logs_every_n_steps=CSV_ROWS)


def tensorboard_logger(path: Path) -> Logger:
    """TensorBoard events below a run folder.

    Raises:
        RunError: the package is missing.
    """
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    try:
        return TensorBoardLogger(path, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise RunError("--tensorboard needs the package tensorboard: pip install 'bnrnn[tensorboard]'") from error


class WandbLogger(Logger):
    """A run on Weights & Biases, in the project ``bnrnn`` or the one that ``WANDB_PROJECT`` names.

    Args:
        path: run folder; wandb's own files go there too.
        name: what the run is called; it groups the starts of one run.
        config: options to be shown beside the metrics.

    Raises:
        RunError: the package is missing, or it refuses to start.
    """

    def __init__(self, path: Path, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise RunError("--wandb needs the package wandb: pip install 'bnrnn[wandb]'") from error
        try:
            self.run = wandb.init(
                dir=str(path),
                project=os.environ.get("WANDB_PROJECT", "bnrnn"),
                group=name,
                name=name,
                config=dict(config),
            )
        except wandb.Error as error:
            raise RunError(f"wandb does not start ({' '.join(str(error).split())})") from error

    @property
    def name(self) -> str | None:
        return self.run.name

    @property
    def version(self) -> str | None:
        return self.run.id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.run.log(dict(metrics), step=step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The options are given at the start."""

    def finalize(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == "success" else 1)
