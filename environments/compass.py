"""Walk to a mark on an open field, with everything seen in the directions of a map that is turned at random."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

SIDE = 1.0  # of the square in which mark and walker begin
TURN, PACE = np.pi / 8, 0.1  # radians and lengths of a step
NEAR = 0.15  # of the mark, where it counts as reached
VIEWS = 8


class Compass(gymnasium.Env[np.ndarray, np.integer]):
    """Turn left, turn right or go forward until the mark is reached.

    sees     the walker's heading (cosine, sine) and the way to the mark (x, y), on a map that is turned by another
             angle in each episode
    reward   how much closer the step has brought it, and 1 for reaching the mark, which ends the episode
    views    the same on a map that is turned by eighths: which way to turn does not depend on where north is
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = Discrete(3)
        self.walker, self.mark, self.heading = np.zeros(2), np.zeros(2), 0.0
        angles = 2 * np.pi * np.arange(VIEWS) / VIEWS
        self.turns = np.stack([_turned(angle) for angle in angles])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        north = _turned(self.np_random.uniform(0, 2 * np.pi))
        self.walker, self.mark = (north @ self.np_random.uniform(-SIDE, SIDE, 2) for _ in range(2))
        self.heading = self.np_random.uniform(0, 2 * np.pi)
        return self._observation(), {}

    def step(self, action: np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        before = self._distance()
        if action == 2:
            self.walker = self.walker + PACE * np.array([np.cos(self.heading), np.sin(self.heading)])
        else:
            self.heading += TURN if action == 0 else -TURN
        after = self._distance()
        reached = bool(after < NEAR)
        return self._observation(), before - after + reached, reached, False, {"is_success": float(reached)}

    def augment_observation(self, observation: np.ndarray) -> np.ndarray:
        """`[8, 4]`: heading and mark on maps that are turned."""
        pairs = observation.reshape(2, 2).astype(np.float64)
        views = np.einsum("kij,pj->kpi", self.turns, pairs).reshape(VIEWS, 4).astype(np.float32)
        views[0] = observation
        return views

    def _distance(self) -> float:
        return float(np.linalg.norm(self.mark - self.walker))

    def _observation(self) -> np.ndarray:
        way = self.mark - self.walker
        return np.array([np.cos(self.heading), np.sin(self.heading), *way], np.float32)

    def render(self) -> np.ndarray:  # type: ignore[override]
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (240, 240), (236, 240, 241))
        draw = ImageDraw.Draw(picture)

        def place(point: np.ndarray) -> tuple[float, float]:
            return 120 + 70 * float(point[0]), 120 - 70 * float(point[1])

        (x, y), (mark_x, mark_y) = place(self.walker), place(self.mark)
        nose = place(self.walker + 0.25 * np.array([np.cos(self.heading), np.sin(self.heading)]))
        draw.ellipse((mark_x - 10, mark_y - 10, mark_x + 10, mark_y + 10), fill=(244, 179, 80))
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill=(65, 131, 215))
        draw.line((x, y, *nose), fill=(44, 62, 80), width=3)
        return np.asarray(picture)


def _turned(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
