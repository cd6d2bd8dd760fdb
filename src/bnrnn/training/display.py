"""What a person sees of a run: a live line on a terminal, a line for each evaluation; both fit 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as Bar
from rich.text import Text

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
    def running(self, update: int, end: int, headline: str) -> Iterator[None]:
        """Shows the run while the context lasts."""
        self._clock = (update, time.perf_counter())
        if self.quiet:
            yield
            return
        self._print(f"{self.title}: updates {update:,} to {end:,}, validation {headline}")
        if not self.console.is_terminal:
            yield
            return
        progress = Progress(
            _Updates(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            expand=True,
            speed_estimate_period=60,
            refresh_per_second=4,
        )
        with progress:
            self._progress = progress
            progress.add_task("", total=end, completed=update, facts="")
            try:
                yield
            finally:
                self._progress = None

    def step(self, update: int, metrics: Mapping[str, float]) -> None:
        if self._progress is None:
            return
        shown = [f"{name} {value:.3f}" for name, value in metrics.items() if name != "gradient_norm"][:2]
        self._say("  ".join([*shown, f"{self._rate(update):.1f}/s"]), update)

    def message(self, text: str) -> None:
        """Shows a few words until the next update."""
        if self._progress is not None:
            self._say(text)
            self._progress.refresh()

    def evaluated(
        self,
        update: int,
        epoch: int,
        headline: str,
        results: Mapping[Statistics, Metrics],
        rows: Mapping[Statistics, int | None],
    ) -> None:
        """Shows an evaluation: the headline metric by each kind of statistics, and over how many rows these were."""
        if self.quiet:
            return
        place = f"update {update:,}  epoch {epoch}"
        rate = f"  {self._rate(update):.1f}/s" if update > self._clock[0] else ""
        for kind, metrics in results.items():
            value = metrics[headline]
            shown = f"{headline} {value:.4f}" if value < 100 else f"{headline} {value:.2f}"
            over = f"  {kind}, {rows[kind]:,} rows" if rows[kind] else ""
            self._print(f"{place:<26}{shown}{over}{rate}")
            place = rate = ""

    def silence(self) -> None:
        """Shows nothing any more: the terminal has gone."""
        self.quiet = True
        self.console.quiet = True
        self._progress = None

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def _rate(self, update: int) -> float:
        first, started = self._clock
        return (update - first) / max(time.perf_counter() - started, 1e-9)

    def _say(self, facts: str, update: int | None = None) -> None:
        assert self._progress is not None
        self._progress.update(self._progress.task_ids[0], completed=update, facts=facts)


class _Updates(ProgressColumn):
    def render(self, task: Bar) -> Text:
        return Text(f"{int(task.completed):,}/{int(task.total or 0):,}")
