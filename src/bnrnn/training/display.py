"""What a person sees of a run: a live line on a terminal, a line for each evaluation elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from bnrnn.training.task import Metrics, Statistics


class Display:
    """Shows loss, headline metric, updates a second and time left.

    Args:
        console: where to; the live line appears only if it is a terminal.
        title: what the run is called.
        quiet: show nothing but the final result.
    """

    def __init__(self, console: Console, title: str, quiet: bool = False) -> None:
        self.console, self.title, self.quiet = console, title, quiet
        self._progress: Progress | None = None
        self._clock = (0, 0.0)

    @contextmanager
    def running(self, update: int, end: int, epoch: int) -> Iterator[None]:
        """Shows the run while the context lasts."""
        self._clock = (update, time.perf_counter())
        if self.quiet or not self.console.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[message]}"),
        )
        with Progress(*columns, console=self.console, speed_estimate_period=60, refresh_per_second=4) as progress:
            self._progress = progress
            progress.add_task(self.title, total=end, completed=update, facts=f"epoch {epoch}", message="")
            try:
                yield
            finally:
                self._progress = None

    def step(self, update: int, epoch: int, metrics: Mapping[str, float]) -> None:
        if self._progress is None:
            return
        first, started = self._clock
        rate = (update - first) / max(time.perf_counter() - started, 1e-9)
        shown = [f"{name} {value:.3f}" for name, value in metrics.items() if name != "gradient_norm"]
        facts = "  ".join([f"epoch {epoch}", *shown, f"{rate:.1f}/s"])
        self._progress.update(self._progress.task_ids[0], completed=update, facts=facts, message="")

    def message(self, text: str) -> None:
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], message=text, refresh=True)

    def evaluated(self, update: int, epoch: int, headline: str, results: Mapping[Statistics, Metrics]) -> None:
        if self.quiet:
            return
        numbers = ", ".join(f"{metrics[headline]:.4f} ({kind} statistics)" for kind, metrics in results.items())
        first, started = self._clock
        rate = (update - first) / max(time.perf_counter() - started, 1e-9)
        self.console.print(
            f"{self.title}  update {update:,}  epoch {epoch}  validation {headline} {numbers}  {rate:.2f} updates/s",
            highlight=False,
            soft_wrap=True,
        )
