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

from ppo_and_friends.vector.sim.chance import multiple, splitmix64
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import write_rows

STREAM = "stream"  # the entry of the memory
BITS = 24  # of each number: what float32 holds, so that both engines draw the same


def start_stream(sim: Simulation) -> Memory:
    """The entry to add to a task's memory."""
    return {STREAM: torch.zeros(sim.rows, dtype=torch.int64, device=sim.device)}


def seed_stream(memory: Memory, rows: Tensor, draw: Draw) -> None:
    """Start the streams of `rows` ([N] bool) anew."""
    high, low = draw.uniform(rows, 0, 2**BITS, 2).floor().to(torch.int64).unbind(1)
    write_rows(memory[STREAM], rows, (high << BITS) + low)


def uniform(memory: Memory, low: float, high: float, size: int, dtype: torch.dtype) -> Tensor:
    """`[N, size]` from [low, high), a new number each for every row."""
    stream = memory[STREAM]
    bits = splitmix64(stream, size, BITS)
    stream.add_(multiple(size))
    return low + (high - low) * 2.0**-BITS * bits.to(dtype)


def normal(memory: Memory, size: int, dtype: torch.dtype) -> Tensor:
    """`[N, size]` standard normal (Box and Muller, 1958)."""
    radius, angle = uniform(memory, 0.0, 1.0, 2 * size, dtype).chunk(2, 1)
    return (-2 * torch.log(1 - radius)).sqrt() * torch.cos(2 * math.pi * angle)
