"""Gymnasium environments whose every number is known."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from ppo_and_friends.types import Obs
from ppo_and_friends.vector.gym_vec import GymEnv

STAY, END, CUT, SOFT, GO_ON, RAISE, NAN_OBS, NAN_REWARD, WRONG_SHAPE, DIE = range(10)


def by_value() -> type[gymnasium.Env]:
    """A class that pickles by value: worker processes need not import this file, and torch with it."""

    class Toy(gymnasium.Env):
        """Counts its steps; the action says what happens. Observes [steps, 0], or [0, 0] after a reset."""

        def __init__(self, render_mode: str | None = None) -> None:
            self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
            self.action_space = spaces.Discrete(10)
            self.steps = 0

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.steps += 1
            if action == RAISE:
                raise ValueError("the toy broke")
            if action == DIE:
                os._exit(3)
            observation = np.array([self.steps, np.nan if action == NAN_OBS else 0.0], np.float32)
            reward = float("nan") if action == NAN_REWARD else 10.0 * self.steps
            info = {"is_success": True, "distance": 0.5, "note": "text"} if action == END else {}
            if action in (SOFT, GO_ON):
                info["non-terminal done"] = True
            if action == WRONG_SHAPE:
                observation = np.zeros(1, np.float32)
            return observation, reward, action in (END, SOFT), action == CUT, info

    return Toy


Toy = by_value()


class Echo(gymnasium.Env):
    """Observes what it is told to, and keeps the actions that it was given."""

    def __init__(self, observation_space=None, observation=None, action_space=None, info=None) -> None:
        self.observation_space = observation_space or spaces.Box(0, 1, (1,))
        self.action_space = action_space or spaces.Discrete(2)
        self.observation = np.zeros(1, np.float32) if observation is None else observation
        self.info, self.taken = info or {}, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation, dict(self.info)

    def step(self, action):
        self.taken.append(action)
        assert self.action_space.contains(action)
        return self.observation, 0.0, False, False, dict(self.info)


def toys(rows: int = 3, workers: int = 0):
    env = GymEnv("Toy", factory=Toy, workers=workers).make(rows)
    env.reset(0)
    return env


def take(env, *actions: int):
    (step,) = env.step((torch.tensor(actions)[:, None],))
    return step


def vector(obs: Obs) -> torch.Tensor:
    """The one tensor of an observation without images."""
    assert isinstance(obs.actor, torch.Tensor)
    return obs.actor


def assert_same(one, other) -> None:
    for name in ("reward", "terminated", "truncated"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.obs.actor, other.obs.actor) and torch.equal(one.final.actor, other.final.actor)
    assert torch.equal(one.obs.mask, other.obs.mask)
