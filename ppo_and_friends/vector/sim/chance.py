"""Random numbers that are a function of a row's key, and the distributions and schedules that are made of them.

Nothing is kept but the keys: whoever has a row's key and knows the moment has its numbers again. That makes them the
same on every engine and after a resume, however often they are asked for, and free of a generator's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.sim.tensors import constant

Operation = Literal["additive", "scaling"]

# SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") as signed numbers
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_SHIFTS = (30, 27, 31)
_BITS = 23  # of a number: its middle of an interval is exact in float32, and never 0 or 1


def uniforms(key: Tensor, moment: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """Numbers from the open interval (0, 1), multiples of 2**-24.

    Args:
        key: [N] int64, of each row.
        moment: [N] int64; at other moments a key has other numbers.
    Returns:
        [N, columns].
    """
    start = _mixed(key + moment * _GAMMA)
    return (splitmix64(start, columns, _BITS).to(dtype) + 0.5) * 2.0**-_BITS


def splitmix64(start: Tensor, columns: int, bits: int) -> Tensor:
    """The highest `bits` of the generator's first outputs, [N, columns] int64.

    Args:
        start: [N] int64, its state in each row, see `multiple`.
    """
    growth = tuple(multiple(number) for number in range(1, columns + 1))
    return _shifted(_mixed(start[:, None] + constant(growth, start)), 64 - bits)


def multiple(number: int) -> int:
    """By how much the generator's state has grown after so many outputs: signed, modulo 2**64."""
    return (number * _GAMMA + 2**63) % 2**64 - 2**63


def _mixed(values: Tensor) -> Tensor:
    """SplitMix64's finaliser; multiplication is modulo 2**64."""
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        values = (values ^ _shifted(values, shift)) * multiplier
    return values ^ _shifted(values, _SHIFTS[-1])


def _shifted(values: Tensor, by: int) -> Tensor:
    """`values` to the right, zeros moving in; torch's own shift would move the sign in."""
    return (values >> by) & ((1 << (64 - by)) - 1)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """A random number, what it does to a value, and how its spread grows.

    range           uniform, loguniform: lowest and highest; gaussian: mean and standard deviation
    operation       additive: value + number; scaling: value * number
    schedule        linear: the number moves from what changes nothing (0, or 1 if scaling) to the one drawn, in
                    proportion to the steps taken, over the first `schedule_steps`; constant: it changes nothing
                    until `schedule_steps`, and is the one drawn from then on
    schedule_steps  environment steps of a world, counted over its episodes since the beginning of the run, whatever is
                    reset or resumed in between. An evaluation has its own worlds, and begins at 0 each time

    Raises:
        UserError: the range is none of its distribution, or a linear schedule has no steps.
    """

    range: tuple[float, float]
    distribution: Literal["uniform", "loguniform", "gaussian"] = "uniform"
    operation: Operation = "additive"
    schedule: Literal["constant", "linear"] = "constant"
    schedule_steps: int = 0

    def __post_init__(self) -> None:
        first, second = self.range
        need = {
            "uniform": ("lowest <= highest", first <= second),
            "loguniform": ("0 < lowest <= highest", 0 < first <= second),
            "gaussian": ("a standard deviation (the second number) of 0 or more", second >= 0),
        }
        rule, fulfilled = need[self.distribution]
        if not fulfilled:
            raise UserError(f"range {self.range} with distribution {self.distribution!r} is none: it needs {rule}.")
        if self.schedule_steps < (self.schedule == "linear"):
            raise UserError(
                f"schedule_steps is {self.schedule_steps}, but must be 0 or more, and 1 or more with schedule 'linear'."
            )

    @property
    def neutral(self) -> float:
        """The number that changes nothing."""
        return 1.0 if self.operation == "scaling" else 0.0

    def sample(self, uniform: Tensor, steps: Tensor) -> Tensor:
        """Numbers of this distribution at `steps` ([N]), from those in (0, 1); [N, columns] both."""
        first, second = self.range
        if self.distribution == "gaussian":
            number = first + second * torch.special.ndtri(uniform)
        elif self.distribution == "loguniform":
            number = first * (second / first) ** uniform
        else:
            number = first + (second - first) * uniform
        if self.schedule_steps == 0:
            return number
        strength = (
            (steps / self.schedule_steps).clamp(max=1.0) if self.schedule == "linear" else steps >= self.schedule_steps
        )
        return self.neutral + strength[:, None].to(uniform.dtype) * (number - self.neutral)

    def combine(self, value: Tensor, number: Tensor) -> Tensor:
        return value * number if self.operation == "scaling" else value + number
