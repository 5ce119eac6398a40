"""Learning curves as `gpu_runs.py` writes them, and what is read off them. Imports neither torch nor a simulator."""

from __future__ import annotations

import csv
import math
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

WARMUP = 10  # iterations in which compilers and recorders of graphs work: they count as later ones do
HEAD = ("iteration", "steps", "seconds", "mean_return", "simulation_failures", "contact_overflow")


class Published(NamedTuple):
    """Returns on Isaac Gym that CleanRL's documentation reports, and the seconds of CleanRL's own runs."""

    rl_games: float
    cleanrl: float
    seconds: float  # on one RTX A6000
    steps: int = 30_000_000


PUBLISHED = {
    "IsaacCartpole": Published(417.0, 413.66, 40),
    "IsaacAnt": Published(5873.0, 3953.0, 240),
    "IsaacHumanoid": Published(6255.0, 2988.0, 350),
    "IsaacBallBalance": Published(320.0, 161.9, 160),
    "IsaacAnymal": Published(62.8, 29.34, 317),
    "IsaacShadowHand": Published(5714.0, 427.2, 130 * 60, 600_000_000),
    "IsaacAllegroHand": Published(3480.0, 762.9, 200 * 60, 600_000_000),
}


class Point(NamedTuple):
    """After one iteration."""

    steps: int  # of the environment, so far
    seconds: float  # since the first iteration began
    mean_return: float  # of about the last 100 episodes; NaN before the first ended
    failures: float = math.nan  # simulations that became unstable in this iteration's rollout; NaN: not counted
    overflows: float = math.nan  # steps of a row in which contacts were lost


class Recorder:
    """Takes the points of a run and says when it is over: at `steps`, or after `limit` seconds.

    `path` is written after every iteration; None for the ranks that write nothing."""

    def __init__(self, path: Path | None, steps: int, limit: float) -> None:
        self.steps, self.limit, self.count, self.reached = steps, limit, 0, 0
        self.file = open(path, "w", newline="", encoding="utf-8") if path else None  # noqa: SIM115 - closed by `close`
        self.writer = csv.writer(self.file, lineterminator="\n") if self.file else None
        if self.writer:
            self.writer.writerow(HEAD)
        self.began = self.made = time.perf_counter()

    def begin(self) -> None:
        """The first iteration begins now."""
        self.began = time.perf_counter()

    def add(self, steps: int, mean_return: float, *trouble: float) -> bool:
        """One more iteration; whether it was the last. `trouble` are the last two fields of a `Point`."""
        now = time.perf_counter()
        self.count, self.reached = self.count + 1, steps
        if self.writer:
            counts = trouble or (math.nan, math.nan)
            self.writer.writerow((self.count, steps, f"{now - self.began:.6f}", f"{mean_return:.6g}", *counts))
        return steps >= self.steps or now - self.made > self.limit

    def close(self) -> None:
        if self.file:
            self.file.close()


def read(path: Path) -> list[Point]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Point(int(row["steps"]), *(float(row[name]) for name in HEAD[2:])) for row in rows]


def counted(points: Sequence[Point]) -> int:
    """How many iterations are warm-up: fewer where the run has few."""
    return min(WARMUP, len(points) // 2)


def rate(points: Sequence[Point]) -> float:
    """Steps a second of the whole loop after the warm-up.

    Raises:
        ValueError: there are fewer than two iterations.
    """
    if len(points) < 2:
        raise ValueError(f"{len(points)} iterations are too few for a speed")
    first = points[counted(points) - 1]
    return (points[-1].steps - first.steps) / (points[-1].seconds - first.seconds)


def training_seconds(points: Sequence[Point]) -> list[float]:
    """Seconds until each point as if nothing had been compiled: warm-up iterations take the others' median time."""
    ends = [0.0, *(point.seconds for point in points)]
    spent = [end - start for start, end in pairwise(ends)]
    warm = counted(points)
    usual = statistics.median(spent[warm:])
    seconds, total = [], 0.0
    for index, own in enumerate(spent):
        total += usual if index < warm else own
        seconds.append(total)
    return seconds


def return_at(points: Sequence[Point], steps: int) -> float:
    """The mean return after the first iteration that reached `steps`; NaN where none did."""
    return next((point.mean_return for point in points if point.steps >= steps), math.nan)


def time_to(points: Sequence[Point], threshold: float) -> tuple[int, float] | None:
    """(steps, training seconds) at which the mean return first reached `threshold`."""
    pairs = zip(points, training_seconds(points), strict=True)
    return next(((point.steps, spent) for point, spent in pairs if point.mean_return >= threshold), None)


def largest_loss(points: Sequence[Point], after: int) -> float:
    """Percent of the highest mean return so far that was lost at most, at any point from `after` steps on."""
    best, worst = 0.0, 0.0
    for point in points:
        if point.mean_return > best:
            best = point.mean_return
        if best and point.steps >= after:
            worst = max(worst, 100 * (best - point.mean_return) / best)
    return worst


def checkpoints(asked: Sequence[int], steps: int) -> Sequence[int]:
    """Those asked for, or eighths of a run of so many steps."""
    return asked or [steps * part // 8 for part in range(1, 9)]


def summary(
    points: Sequence[Point], threshold: float, loss_after: int, at: Sequence[int], alone: bool = True
) -> dict[str, Any]:
    """What is written of one run.

    Cells are empty for a threshold of 0 or one that was not reached, for what was not counted, and for the seconds of
    runs that were not alone on their GPU.

    Args:
        at: the steps whose returns are kept.
    """
    reached = time_to(points, threshold) if threshold else None
    failures, overflows = (sum(point[column] for point in points) for column in (3, 4))
    return {
        "steps_per_second": f"{rate(points):.6g}" if alone else "",
        "seconds": f"{training_seconds(points)[-1]:.5g}" if alone else "",
        "seconds_with_compilation": f"{points[-1].seconds:.5g}" if alone else "",
        "threshold": threshold or "",
        "threshold_steps": reached[0] if reached else "",
        "threshold_seconds": f"{reached[1]:.5g}" if reached and alone else "",
        "loss_percent": f"{largest_loss(points, loss_after):.4g}",
        "loss_after": loss_after,
        "simulation_failures": "" if math.isnan(failures) else f"{failures:.0f}",
        "contact_overflow": "" if math.isnan(overflows) else f"{overflows:.0f}",
        "returns": returns(points, at),
    }


def returns(points: Sequence[Point], checkpoints: Sequence[int]) -> str:
    """`STEPS:RETURN STEPS:RETURN ...`, one cell of a CSV file."""
    return " ".join(f"{steps}:{return_at(points, steps):.1f}" for steps in checkpoints)


def parsed(cell: str) -> dict[int, float]:
    """What `returns` wrote."""
    pairs = (word.split(":") for word in cell.split())
    return {int(steps): float(value) for steps, value in pairs}
