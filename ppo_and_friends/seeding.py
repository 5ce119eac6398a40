"""Generators that belong to the whole process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ppo_and_friends.comm import Comm


def seed_globals(seed: int) -> None:
    """The generators that environments without seeds draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def globals_seeded(seed: int) -> Iterator[None]:
    """The same for a while; Python's and NumPy's are then again where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    seed_globals(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def drawn_if_negative(seed: int, comm: Comm) -> int:
    """A seed as it is asked for, or below 0 one that is drawn: the same number on every rank."""
    if seed < 0:
        drawn = np.random.SeedSequence().generate_state(1)[0] if comm.rank == 0 else 0
        seed = int.from_bytes(comm.broadcast_bytes(int(drawn).to_bytes(8, "little")), "little")
    return seed
