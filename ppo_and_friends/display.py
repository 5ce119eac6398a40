"""What a person sees while a run goes on: a progress bar on a terminal, now and then a line otherwise.

Clocks decide only when something is shown, never what is computed.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, TextIO

from ppo_and_friends.schedules import Progress
from ppo_and_friends.types import Spec

if TYPE_CHECKING:
    from rich.console import RenderableType

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_DRAWINGS = 0.1
PACE_WINDOW = 50  # iterations

Metrics = dict[str, float]


class Display(Protocol):
    """Takes the metrics of every iteration; shows them when it pleases."""

    def update(self, metrics: Metrics) -> None: ...

    def say(self, text: str) -> None:
        """Print a line that stays."""
        ...

    def close(self) -> None:
        """Show where the run stands at the end."""
        ...


def first_line(spec: Spec, device: str, ranks: int, threads: int) -> str:
    """Task, engine, device, ranks and threads, before anything else happens."""
    rows = spec.groups[0].rows
    return (
        f"{spec.task} on {spec.engine}: device {device}, {_count(ranks, 'rank')} of {_count(rows, 'row')} "
        f"and {_count(threads, 'thread')} each"
    )


def make_display(start: Progress, verbose: bool, stream: TextIO | None = None) -> Display:
    """A bar where `stream` (standard output) is a terminal, lines where it is a file or a pipe."""
    output: TextIO = stream or sys.stdout
    # Open MPI gives its ranks a terminal of their own, wherever mpirun's output really goes.
    terminal = output.isatty() and "OMPI_COMM_WORLD_SIZE" not in os.environ
    return (BarDisplay if terminal else LineDisplay)(start, verbose, output)


class Pace:
    """Steps a second over the last iterations, and the time that the rest will take at this rate."""

    def __init__(self, start: Progress) -> None:
        self.total = start.total
        self._points = deque([(time.monotonic(), start.timesteps)], maxlen=PACE_WINDOW)

    def update(self, timesteps: int) -> None:
        self._points.append((time.monotonic(), timesteps))

    @property
    def timesteps(self) -> int:
        return self._points[-1][1]

    @property
    def fraction(self) -> float:
        return min(1.0, self.timesteps / max(1, self.total))

    @property
    def rate(self) -> float:
        """Steps a second; 0 while it is not known."""
        (began, first), (now, last) = self._points[0], self._points[-1]
        return (last - first) / (now - began) if now > began else 0.0

    @property
    def remaining(self) -> str:
        if not self.rate:
            return "-:--:--"
        seconds = round(max(0, self.total - self.timesteps) / self.rate)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def summary(self, metrics: Metrics) -> str:
        return (
            f"{self.timesteps:,}/{self.total:,} steps, {self.rate:,.0f} steps/s, ETA {self.remaining}, "
            f"return {_number(metrics.get('mean_return'))}, length {_number(metrics.get('mean_length'))}"
        )


class LineDisplay:
    """A line every few seconds."""

    def __init__(self, start: Progress, verbose: bool, stream: TextIO) -> None:
        self._pace, self._verbose, self._stream = Pace(start), verbose, stream
        self._latest: Metrics = {}
        self._shown_at = -math.inf
        self._pending = False

    def update(self, metrics: Metrics) -> None:
        self._pace.update(int(metrics["timesteps"]))
        self._latest, self._pending = metrics, True
        if time.monotonic() - self._shown_at >= SECONDS_BETWEEN_LINES:
            self._show()

    def _show(self) -> None:
        self.say(f"{self._pace.fraction:4.0%} {self._pace.summary(self._latest)}")
        if self._verbose:
            self.say("     " + ", ".join(f"{name} {value:.4g}" for name, value in self._latest.items()))
        self._shown_at, self._pending = time.monotonic(), False

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._pending:
            self._show()


class BarDisplay:
    """A live bar, drawn by the calling thread only: no thread competes with training."""

    def __init__(self, start: Progress, verbose: bool, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._pace, self._verbose = Pace(start), verbose
        self._latest: Metrics = {}
        self._drawn_at = -math.inf
        self._live = Live(console=Console(file=stream), auto_refresh=False, get_renderable=self._render)
        self._live.start()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        bar.add_row(f"{self._pace.fraction:4.0%}", ProgressBar(completed=100 * self._pace.fraction, width=30))
        rows: list[RenderableType] = [bar, Text(self._pace.summary(self._latest))]
        if self._verbose:
            table = Table.grid(padding=(0, 2))
            for name, value in self._latest.items():
                table.add_row(name, f"{value:.4g}")
            rows.append(table)
        return Group(*rows)

    def update(self, metrics: Metrics) -> None:
        self._pace.update(int(metrics["timesteps"]))
        self._latest = metrics
        if time.monotonic() - self._drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            self._live.refresh()
            self._drawn_at = time.monotonic()

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()  # draws once more


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.1f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
