"""Several rows of an environment in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ppo_and_friends.vector.base import VecEnv

WIDTH = 480  # pixels of the whole picture at most; a GIF of one row has 320


class Mosaic:
    """A `VecEnv` whose picture of a row shows the `rows` rows from there on, from left to right and top to bottom."""

    def __init__(self, env: VecEnv, rows: int) -> None:
        self._env, self._rows = env, min(rows, env.spec.groups[0].environments)
        self.spec = env.spec
        self.reset, self.step, self.state, self.load_state = env.reset, env.step, env.state, env.load_state
        self.close = env.close

    def frame(self, row: int) -> np.ndarray:
        """`[height, width, 3]` uint8."""
        last = self.spec.groups[0].environments - self._rows
        first = min(row, last)
        return tiled([self._env.frame(number) for number in range(first, first + self._rows)])


def mosaic(env: VecEnv, rows: int) -> VecEnv:
    """The environment itself where its picture shows one row anyway."""
    return env if rows == 1 else Mosaic(env, rows)


def tiled(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames `[height, width, 3]` uint8 of one size, scaled down, in a grid that is about square; black where it is
    longer than they are."""
    columns = math.ceil(math.sqrt(len(frames)))
    height, width, _ = frames[0].shape
    across = min(width, max(1, WIDTH // columns))
    down = max(1, round(height * across / width))
    picture = np.zeros((-(-len(frames) // columns) * down, columns * across, 3), np.uint8)
    for index, frame in enumerate(frames):
        top, left = index // columns * down, index % columns * across
        cell = Image.fromarray(np.ascontiguousarray(frame)).resize((across, down), Image.Resampling.BOX)
        picture[top : top + down, left : left + across] = np.asarray(cell)
    return picture
