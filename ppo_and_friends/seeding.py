"""Generators that belong to the whole process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


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
