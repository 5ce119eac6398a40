"""Numbers that change while a run goes on: constants, straight lines, steps, and functions of the score.

A schedule is written as text, so that it fits on a command line, in a config file and in a launcher:

    3e-4                            constant
    linear:3e-4,1e-5                from the first to the second over the run's total of timesteps
    linear:3e-4,1e-5,200000         the same over the first 200 000 timesteps, then constant
    step:3e-4,100000:1e-4,1e6:1e-5  3e-4, from timestep 100 000 on 1e-4, from 1 000 000 on 1e-5
    score:0.02,200:0.001            0.02, and 0.001 while the mean return of recent episodes is 200 or more
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ppo_and_friends.errors import UserError

KINDS = ("constant", "linear", "step", "score")


class Progress(NamedTuple):
    """Where a run stands. The same on every rank."""

    timesteps: int
    total: int  # timesteps at which the run ends
    score: float = -math.inf  # mean return of recent whole episodes of all ranks


@dataclass(frozen=True)
class Schedule:
    """A number as a function of `Progress`. See the module's own text for what may be written."""

    text: str

    def __post_init__(self) -> None:
        kind, numbers = self._parse()
        if (kind == "linear" and not 2 <= len(numbers) <= 3) or (kind == "constant" and len(numbers) != 1):
            raise _mistake(self.text)
        thresholds = [threshold for threshold, _ in numbers]
        if kind in ("step", "score") and thresholds != sorted(set(thresholds)):
            raise _mistake(self.text)

    def _parse(self) -> tuple[str, list[tuple[float, float]]]:
        """(kind, [(threshold, value)]); the threshold of the first value is minus infinity."""
        kind, colon, rest = self.text.partition(":")
        if not colon:
            kind, rest = "constant", self.text
        if kind not in KINDS:
            raise _mistake(self.text)
        try:
            pairs = []
            for index, part in enumerate(rest.split(",")):
                threshold, colon, value = part.rpartition(":")
                if bool(colon) != (kind in ("step", "score") and index > 0):
                    raise ValueError
                pairs.append((float(threshold) if colon else -math.inf, float(value)))
            if any(not math.isfinite(value) and kind != "constant" for _, value in pairs):
                raise ValueError
        except ValueError:
            raise _mistake(self.text) from None
        return kind, pairs

    def values(self) -> list[float]:
        """Every value that the schedule names, for checking bounds."""
        kind, pairs = self._parse()
        return [value for _, value in pairs[: 2 if kind == "linear" else None]]

    @property
    def depends_on_total(self) -> bool:
        """Whether another total of timesteps makes other numbers."""
        kind, pairs = self._parse()
        return kind == "linear" and len(pairs) == 2

    def __call__(self, progress: Progress) -> float:
        kind, pairs = self._parse()
        values = [value for _, value in pairs]
        if kind == "linear":
            length = values[2] if len(values) == 3 else progress.total
            fraction = min(1.0, progress.timesteps / max(1.0, length))
            return values[0] + (values[1] - values[0]) * fraction
        position = progress.score if kind == "score" else progress.timesteps
        return [value for threshold, value in pairs if position >= threshold][-1]

    def __str__(self) -> str:
        return self.text


def _mistake(text: str) -> UserError:
    return UserError(
        f"'{text}' is not a schedule: write a number, linear:FIRST,LAST[,TIMESTEPS], "
        "step:VALUE,TIMESTEP:VALUE,... or score:VALUE,RETURN:VALUE,..."
    )


def constant(value: float) -> Schedule:
    return Schedule(repr(float(value)))


def linear(first: float, last: float, timesteps: int | None = None) -> Schedule:
    """A straight line from `first` to `last` over `timesteps`, or over the whole run."""
    return Schedule(f"linear:{first!r},{last!r}" + ("" if timesteps is None else f",{timesteps}"))
