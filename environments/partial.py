"""Gymnasium environments that do not show all that decides about them: whoever plays them well remembers."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Columns(gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """Shows only some columns of a vector."""

    def __init__(self, env: gymnasium.Env[np.ndarray, Any], columns: tuple[int, ...]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.columns = list(columns)
        self.observation_space = gymnasium.spaces.Box(space.low[self.columns], space.high[self.columns])

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[self.columns]


def cart_pole_without_velocities(**settings: Any) -> Columns:
    """CartPole-v1: the cart's position and the pole's angle."""
    return Columns(gymnasium.make("CartPole-v1", disable_env_checker=True, **settings), (0, 2))


def pendulum_without_velocity(**settings: Any) -> Columns:
    """Pendulum-v1: cosine and sine of the angle."""
    return Columns(gymnasium.make("Pendulum-v1", disable_env_checker=True, **settings), (0, 1))


class Entries(gymnasium.ObservationWrapper[Any, Any, np.ndarray]):
    """Shows the columns of a vector as named entries of a Dict."""

    def __init__(self, env: gymnasium.Env[np.ndarray, Any], entries: dict[str, tuple[int, ...]]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.columns = {name: list(columns) for name, columns in entries.items()}
        self.observation_space = gymnasium.spaces.Dict(
            {name: gymnasium.spaces.Box(space.low[own], space.high[own]) for name, own in self.columns.items()}
        )

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {name: observation[columns] for name, columns in self.columns.items()}


def pendulum_with_velocity_apart(**settings: Any) -> Entries:
    """Pendulum-v1: `angle`, its cosine and sine, and `velocity`."""
    env = gymnasium.make("Pendulum-v1", disable_env_checker=True, **settings)
    return Entries(env, {"angle": (0, 1), "velocity": (2,)})


class RecallCue(gymnasium.Env[np.ndarray, np.int64]):
    """One of `cues` is shown in the first observation, then nothing for `delay - 1` steps; then a flag asks for it.

    Observation: `cues` columns, 1 at the cue in the first step, and the flag, 1 in the last. The reward is 1 for the
    right answer to the flag, and 0 otherwise: chance has 1 / cues.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    colours = ((220, 50, 47), (38, 139, 210), (133, 153, 0), (181, 137, 0))

    def __init__(self, cues: int = 4, delay: int = 20, render_mode: str | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (cues + 1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(cues)
        self.cues, self.delay, self.render_mode = cues, delay, render_mode
        self.cue, self.clock, self.answer = 0, 0, -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cue, self.clock, self.answer = int(self.np_random.integers(self.cues)), 0, -1
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        asked = self.clock == self.delay
        self.answer = int(action) if asked else -1
        self.clock += 1
        return self._observation(), float(asked and self.answer == self.cue), asked, False, {}

    def _observation(self) -> np.ndarray:
        observation = np.zeros(self.cues + 1, np.float32)
        observation[self.cue] = self.clock == 0
        observation[self.cues] = self.clock == self.delay
        return observation

    def render(self) -> np.ndarray:
        """The cue above while it is shown, a white field below while it is asked for."""
        picture = np.zeros((120, 120, 3), np.uint8)
        if self.clock == 0:
            picture[10:60, 10:110] = self.colours[self.cue % len(self.colours)]
        if self.clock == self.delay:
            picture[70:110, 10:110] = 255
        return picture
