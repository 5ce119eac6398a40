"""A grid of rooms with one reward far from the start: nothing but reaching it tells that it is there."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # up, right, down, left
CELL = 14  # pixels
COLOURS = {"floor": (236, 236, 230), "wall": (70, 74, 84), "goal": (60, 160, 90), "walker": (40, 90, 200)}


class Rooms(gymnasium.Env[np.ndarray, Any]):
    """`rooms` x `rooms` rooms of `size` x `size` cells, with a door in the middle of each wall between two.

    Episodes begin in the upper left corner. The lower right one gives 1 and ends them, all else gives 0: the mean
    return is the share of episodes that arrive. Observed are column and row; a step into a wall goes nowhere. Nothing
    is random.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as Gymnasium has it

    def __init__(self, rooms: int = 3, size: int = 5, render_mode: str | None = None) -> None:
        self.size, self.side, self.render_mode = size, rooms * (size + 1) - 1, render_mode
        self.observation_space = spaces.MultiDiscrete([self.side, self.side])
        self.action_space = spaces.Discrete(4)
        self.x = self.y = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x = self.y = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        right, down = MOVES[action]
        if self.is_free(self.x + right, self.y + down):
            self.x, self.y = self.x + right, self.y + down
        arrived = self.x == self.y == self.side - 1
        return self._observe(), float(arrived), arrived, False, {"is_success": arrived}

    def is_free(self, x: int, y: int) -> bool:
        """Whether one can stand there: inside, and in a room or a door."""
        if not (0 <= x < self.side and 0 <= y < self.side):
            return False
        in_wall = (x + 1) % (self.size + 1) == 0, (y + 1) % (self.size + 1) == 0
        if all(in_wall):
            return False
        along = y if in_wall[0] else x
        return not any(in_wall) or along % (self.size + 1) == self.size // 2

    def render(self) -> np.ndarray:
        picture = np.full((self.side + 2, self.side + 2, 3), COLOURS["wall"], np.uint8)
        for x in range(self.side):
            for y in range(self.side):
                if self.is_free(x, y):
                    picture[y + 1, x + 1] = COLOURS["floor"]
        picture[self.side, self.side] = COLOURS["goal"]
        picture[self.y + 1, self.x + 1] = COLOURS["walker"]
        return picture.repeat(CELL, 0).repeat(CELL, 1)

    def _observe(self) -> np.ndarray:
        return np.array([self.x, self.y])
