"""What a person sees while a run goes on: a live display on a terminal (bar.py), now and then a line otherwise.

Clocks decide only when something is shown, never what is computed.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Collection
from typing import Protocol, TextIO

from ppo_and_friends.comm import Comm
from ppo_and_friends.nccl import route
from ppo_and_friends.progress_csv import PHASE
from ppo_and_friends.schedules import Progress
from ppo_and_friends.types import Spec

SECONDS_BETWEEN_LINES = 5.0
WINDOW = 50  # iterations over which pace and phases are averaged
INDENT = " " * 5

Metrics = dict[str, float]

# Words in a line -> metrics; what --verbose adds is everything else.
IN_LINE = {
    "return": "mean_return",
    "length": "mean_length",
    "KL": "kl",
    "EV": "explained_variance",
    "entropy": "entropy",
    "clip": "clip_fraction",
    "lr": "lr",
}


class Display(Protocol):
    """Takes the metrics of every iteration; shows them when it pleases."""

    def update(self, metrics: Metrics) -> None: ...

    def close(self) -> None:
        """Show where the run stands at the end."""
        ...


def first_lines(spec: Spec, device: str, comm: Comm, threads: int) -> str:
    """Task, engine, device, ranks and threads, before anything else happens; and whether ranks lack cores."""
    group, ranks, cores = spec.groups[0], comm.local_size, comm.local_cores
    agents, rows = sum(len(other.agents) for other in spec.groups), _count(group.rows, "row")
    if agents > 1:
        rows = f"{_count(group.environments, 'environment')} of {agents} agents"
    line = (
        f"{spec.task} on {spec.engine}: device {device}, {_count(comm.size, 'rank')} of {rows} "
        f"and {_count(threads, 'thread')} each{route(comm, device)}"
    )
    if ranks <= cores:
        return line
    return (
        f"{line}\nWarning: {ranks} ranks share {_count(cores, 'core')} of this node: {cores} would usually be faster."
    )


def make_display(start: Progress, best: float, verbose: bool, stream: TextIO | None = None) -> Display:
    """Live where `stream` (standard output) is a terminal that can move its cursor, else lines.

    Args:
        start: timesteps done so far, and the total.
        best: the best evaluation so far, minus infinity before the first.
        verbose: show every metric, and how long each phase takes.
    """
    output: TextIO = stream or sys.stdout
    moves = os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    # Open MPI gives its ranks a terminal of their own, wherever mpirun's output really goes.
    if output.isatty() and moves and "OMPI_COMM_WORLD_SIZE" not in os.environ:
        from ppo_and_friends.bar import BarDisplay  # only now: rich would delay the first step elsewhere

        return BarDisplay(start, best, verbose, output)
    return LineDisplay(start, best, verbose, output)


class Standing:
    """Where a run stands: the last value of every metric, the pace and the phases of the last iterations.

    The first iteration of this call counts for neither: it compiles, opens files and starts environments."""

    def __init__(self, start: Progress, best: float = -math.inf) -> None:
        self.total, self.best = start.total, best
        self.latest: Metrics = {}
        self.evaluated_at: int | None = None
        self.timesteps, self._began = start.timesteps, time.monotonic()
        self._points: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)  # ends of iterations
        self._phases: deque[Metrics] = deque(maxlen=WINDOW)

    def update(self, metrics: Metrics) -> None:
        self.latest |= metrics
        self.timesteps = int(metrics["timesteps"])
        if self._points:
            self._phases.append({name: value for name, value in metrics.items() if name.startswith(PHASE)})
        self._points.append((time.monotonic(), self.timesteps))
        if "evaluation_return" in metrics:
            self.evaluated_at = self.timesteps
            if metrics["evaluation_return"] > self.best:
                self.best = metrics["evaluation_return"]

    @property
    def fraction(self) -> float:
        return min(1.0, self.timesteps / max(1, self.total))

    @property
    def rate(self) -> float:
        """Steps a second; 0 while it is not known."""
        if not self._phases:
            return 0.0
        (began, first), (now, last) = self._points[0], self._points[-1]
        return (last - first) / (now - began) if now > began else 0.0

    @property
    def pace(self) -> str:
        """The rate in words."""
        return f"{self.rate:,.0f}" if self.rate else "-"

    @property
    def elapsed(self) -> str:
        """The time since this call began."""
        return _clock(time.monotonic() - self._began)

    @property
    def remaining(self) -> str:
        """The time that the rest takes at this rate."""
        return _clock(max(0, self.total - self.timesteps) / self.rate) if self.rate else "-"

    def value(self, name: str) -> str:
        """The last value of a metric; of each group, `a/b`, where there are several."""
        if name in self.latest:
            return number(self.latest[name])
        return "/".join(number(value) for key, value in self.latest.items() if key.endswith(f"/{name}")) or number(None)

    def phases(self) -> dict[str, tuple[float, float]]:
        """{phase: (its share of an iteration's time, milliseconds an iteration)}; `other` is what none measures."""
        iterations = len(self._phases)
        duration = self._points[-1][0] - self._points[0][0] if iterations else 0.0
        if not duration:
            return {}
        names = dict.fromkeys(name for phases in self._phases for name in phases)
        sums = {name: sum(phases.get(name, 0.0) for phases in self._phases) for name in names}
        seconds = {name.removeprefix(PHASE): total for name, total in sums.items()}
        seconds["other"] = max(0.0, duration - sum(seconds.values()))
        return {name: (total / duration, 1000 * total / iterations) for name, total in seconds.items()}

    def rest(self, shown: Collection[str]) -> dict[str, str]:
        """{name: value} of the metrics that are neither phases nor `shown`."""
        rest = {name: value for name, value in self.latest.items() if name not in shown}
        return {name: number(value) for name, value in rest.items() if not name.startswith(PHASE)}


class LineDisplay:
    """A line every few seconds, and one for each evaluation."""

    def __init__(self, start: Progress, best: float, verbose: bool, stream: TextIO) -> None:
        self._standing, self._verbose, self._stream = Standing(start, best), verbose, stream
        self._shown_at = -math.inf
        self._pending = False

    def update(self, metrics: Metrics) -> None:
        standing = self._standing
        standing.update(metrics)
        self._pending = True
        if "evaluation_return" in metrics:
            score = number(metrics["evaluation_return"])
            self._print(f"{INDENT}evaluation at {standing.timesteps:,}: {score}, best {number(standing.best)}")
        if time.monotonic() - self._shown_at >= SECONDS_BETWEEN_LINES:
            self._show()

    def _show(self) -> None:
        standing = self._standing
        words = [f"{word} {standing.value(name)}" for word, name in IN_LINE.items()]
        self._print(
            f"{standing.fraction:4.0%} {standing.timesteps:,}/{standing.total:,} steps, "
            f"{standing.pace} steps/s, ETA {standing.remaining}, {', '.join(words)}"
        )
        if self._verbose:
            phases = [f"{name} {share:.0%} {ms:,.1f} ms" for name, (share, ms) in standing.phases().items()]
            rest = [f"{name} {value}" for name, value in standing.rest((*IN_LINE.values(), "timesteps")).items()]
            for words in filter(None, (phases, rest)):
                self._print(f"{INDENT}{', '.join(words)}")
        self._shown_at, self._pending = time.monotonic(), False

    def _print(self, text: str) -> None:
        print(printable(text, self._stream), file=self._stream, flush=True)

    def close(self) -> None:
        if self._pending:
            self._show()


def number(value: float | None) -> str:
    """Three digits or more; "-" for what is not known or not finite."""
    if value is None or not math.isfinite(value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if 99.95 <= abs(value) < 1e6:
        return f"{value:,.1f}"
    return f"{value:#.3g}"


def printable(text: str, stream: TextIO) -> str:
    """`text` with a question mark for what the stream's encoding lacks."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
