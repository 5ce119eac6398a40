"""Random numbers in the middle of an episode: a stream for each row, seeded by the `Draw` of its reset.

A task is given a `Draw` only when rows start. What it needs later (a push, the next goal) comes from a counter of
the row's own, hashed as SplitMix64 does (Steele, Lea and Flood, 2014). The counter is an ordinary entry of a task's
memory: it is saved with it, and drawing is a tensor function that can be captured in a graph. Rows draw together,
so how many rows there are, and which of them use their number, changes nothing for a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation

STREAM = "stream"  # the entry of the memory

_STEP = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit integers, which torch has
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_BITS = 24  # of each number: what float32 holds, so that both engines draw the same


def start_stream(sim: Simulation) -> Memory:
    """The entry to add to a task's memory."""
    return {STREAM: torch.zeros(sim.rows, dtype=torch.int64, device=sim.device)}


def seed_stream(memory: Memory, rows: Tensor, draw: Draw) -> None:
    """Start the streams of `rows` ([N] bool) anew."""
    high, low = draw.uniform(rows, 0, 2**_BITS, 2).floor().to(torch.int64).unbind(1)
    stream = memory[STREAM]
    stream.copy_(torch.where(rows, (high << _BITS) + low, stream))


def uniform(memory: Memory, low: float, high: float, size: int, dtype: torch.dtype) -> Tensor:
    """`[N, size]` from [low, high), a new number each for every row."""
    stream = memory[STREAM]
    steps = torch.arange(1, size + 1, device=stream.device)
    bits = _scramble(stream[:, None] + steps * _STEP)
    stream.add_(steps[-1] * _STEP)
    return low + (high - low) * 2.0**-_BITS * _shifted(bits, 64 - _BITS).to(dtype)


def normal(memory: Memory, size: int, dtype: torch.dtype) -> Tensor:
    """`[N, size]` standard normal (Box and Muller, 1958)."""
    radius, angle = uniform(memory, 0.0, 1.0, 2 * size, dtype).chunk(2, 1)
    return (-2 * torch.log(1 - radius)).sqrt() * torch.cos(2 * math.pi * angle)


def _scramble(counter: Tensor) -> Tensor:
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        counter = (counter ^ _shifted(counter, shift)) * factor
    return counter ^ _shifted(counter, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, zeros coming in at the left: torch's own shift would bring in the sign."""
    return (bits >> places) & (2 ** (64 - places) - 1)
