"""An environment of your own: `python main.py -e examples/my_env.py:MyTask`."""

from typing import Any

import gymnasium
import numpy as np

from ppo_and_friends.config import Experiment, PPOConfig
from ppo_and_friends.vector.gym_vec import GymEnv


class Chase(gymnasium.Env[np.ndarray, np.ndarray]):
    """Move a point along a line to a target that stands still; the reward is minus the distance."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (2,), np.float32)  # position, target
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)  # step to the left or to the right

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode  # "rgb_array" for --render_gif

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-5.0, 5.0, 2).astype(np.float32)
        return self.state.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.state[0] = np.clip(self.state[0] + action[0], -10.0, 10.0)
        return self.state.copy(), -float(abs(self.state[0] - self.state[1])), False, False, {}

    def render(self) -> np.ndarray:
        picture = np.full((40, 220, 3), 255, np.uint8)
        for x, colour in zip(100 + 10 * self.state.astype(int), ((200, 0, 0), (0, 120, 0)), strict=True):
            picture[10:30, x : x + 20] = colour
        return picture


def MyTask() -> Experiment:
    env = GymEnv(id="Chase", factory=Chase, max_episode_steps=20)
    return Experiment(env=env, num_timesteps=50_000, ppo=PPOConfig(steps_total=1024))
