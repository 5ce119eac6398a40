"""Stand-ins for environments whose batch is tensors, one an interface, with numbers that can be followed by hand.

A row counts its steps: episode `e` (from 0) shows 100 * e + its age. An action above 1 is a fall, and an episode of
`LIMIT` steps is a time-out. The reward is the number seen after the step, whatever episode that belongs to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

LIMIT = 5
FALL = 2.0


def actions(rows: int, *falls: int) -> tuple[Tensor]:
    """Actions with which the rows `falls` fall."""
    given = torch.zeros(rows, 1)
    given[list(falls)] = FALL
    return (given,)


class Rows:
    """Ages and episodes of N rows, and the two buffers that every step overwrites in place."""

    def __init__(self, rows: int) -> None:
        self.age, self.episode = torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.int64)
        self.obs, self.reward = torch.zeros(rows, 1), torch.zeros(rows)
        self.falls, self.late = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool)

    def begin(self, rows: Tensor) -> None:
        self.episode += rows
        self.age *= ~rows

    def advance(self, given: Tensor) -> None:
        self.age += 1
        torch.gt(given[:, 0], 1.0, out=self.falls)
        torch.ge(self.age, LIMIT, out=self.late)

    def show(self) -> None:
        self.obs.copy_((100 * self.episode + self.age).unsqueeze(1))

    def pay(self) -> None:
        self.reward.copy_(100 * self.episode + self.age)


class VecTask:
    """IsaacGymEnvs' interface. `reset_order`: "after" or "before" the physics of the next step, or "at once"."""

    def __init__(self, rows: int, reset_order: str = "after") -> None:
        self.num_envs, self.num_acts, self.max_episode_length = rows, 1, LIMIT + 1
        self.rl_device, self.order = "cpu", reset_order
        self.action_space = Box(-1.0, 1.0, (1,))
        self.rows = Rows(rows)
        self.rows.episode -= 1  # the first reset begins episode 0
        self.progress_buf = self.rows.age
        self.reset_buf = torch.ones(rows, dtype=torch.int64)
        self.obs_dict: dict[str, Tensor] = {}
        self.extras: dict[str, Any] = {}

    def reset(self) -> dict[str, Tensor]:
        return {"obs": torch.zeros(self.num_envs, 1), "states": torch.zeros(self.num_envs, 2)}

    def step(self, given: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Any]]:
        given = given.clamp(-5.0, 5.0)
        if self.order == "before":
            self._reset(self.reset_buf.bool())
        self.rows.advance(given)
        if self.order == "after":
            waiting = self.reset_buf.bool()
            self._reset(waiting)
            self.rows.falls &= ~waiting
        self.rows.late.copy_(self.progress_buf >= self.max_episode_length - 1)
        self.rows.pay()
        self.reset_buf.copy_(self.rows.falls | self.rows.late)
        if self.order == "at once":
            self.rows.begin(self.reset_buf.bool())
        self.rows.show()
        self.extras["time_outs"] = (self.progress_buf >= self.max_episode_length - 1) & (self.reset_buf != 0)
        self.extras["consecutive_successes"] = self.rows.obs.mean()
        self.obs_dict["obs"] = self.rows.obs
        self.obs_dict["states"] = torch.cat((self.rows.obs, -self.rows.obs), 1)
        return self.obs_dict, self.rows.reward, self.reset_buf, self.extras

    def _reset(self, rows: Tensor) -> None:
        self.rows.begin(rows)
        self.reset_buf *= ~rows


class LabEnv:
    """Isaac Lab's and mjlab's interface: five values, groups, reset in the step that ends an episode."""

    def __init__(self, rows: int, finite: bool = False, groups: tuple[str, str] = ("policy", "critic")) -> None:
        self.num_envs, self.groups, self.rows = rows, groups, Rows(rows)
        self.cfg = type("Config", (), {"is_finite_horizon": finite})()
        self.single_action_space = Box(-np.inf, np.inf, (1,))
        self.single_observation_space = Dict({name: Box(-np.inf, np.inf, (1,)) for name in groups})
        self.given, self.seed = torch.zeros(rows, 1), -1
        self.extras: dict[str, Any] = {}

    @property
    def unwrapped(self) -> LabEnv:
        return self

    def reset(self, *, seed: int | None = None, options: None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self.seed = -1 if seed is None else seed
        self.rows.episode.zero_()
        self.rows.age.zero_()
        self.rows.show()
        return self.observe(), self.extras

    def observe(self) -> dict[str, Tensor]:
        actor, critic = self.groups
        return {actor: self.rows.obs, critic: self.rows.obs.repeat(1, 2)}

    def step(self, given: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        self.extras["kept_action"] = self.given.squeeze(1)  # of the step before, by reference
        self.given = given
        self.rows.advance(given)
        self.rows.pay()
        self.rows.late &= ~self.rows.falls
        self.rows.begin(self.rows.falls | self.rows.late)
        self.rows.show()
        self.extras["log"] = {"Episode_Reward/alive": self.rows.reward.mean(), "Curriculum/level": 2, "name": "flat"}
        return self.observe(), self.rows.reward, self.rows.falls, self.rows.late, self.extras


class Groups:
    """As much of a TensorDict as anyone reads: keys, and items by key; it iterates over rows."""

    def __init__(self, groups: dict[str, Tensor]) -> None:
        self._groups = groups

    def keys(self) -> Any:
        return self._groups.keys()

    def __getitem__(self, name: str) -> Tensor:
        return self._groups[name]

    def __iter__(self) -> Any:
        raise AssertionError("a TensorDict iterates over rows")


class RslRlEnv:
    """rsl_rl's VecEnv over an environment like Isaac Lab's. `reset` is no part of the interface."""

    def __init__(self, rows: int, finite: bool = False) -> None:
        self.num_envs, self.num_actions, self.max_episode_length, self.device = rows, 1, LIMIT, "cpu"
        self.env, self.finite = LabEnv(rows), finite
        self.env.reset()

    @property
    def episode_length_buf(self) -> Tensor:
        return self.env.rows.age

    def get_observations(self) -> Groups:
        return Groups(self.env.observe())

    def step(self, given: Tensor) -> tuple[Groups, Tensor, Tensor, dict[str, Any]]:
        obs, reward, terminated, truncated, extras = self.env.step(given)
        if not self.finite:
            extras["time_outs"] = truncated
        return Groups(obs), reward, (terminated | truncated).long(), extras


class TorchVector:
    """One of Gymnasium's own vector environments, with tensors."""

    def __init__(self, env: Any) -> None:
        self.unwrapped = env.unwrapped
        self.metadata, self.num_envs, self.single_action_space = env.metadata, env.num_envs, env.single_action_space

    def reset(self, seed: int | None = None) -> tuple[Tensor, dict[str, Any]]:
        obs, infos = self.unwrapped.reset(seed=seed)
        return torch.from_numpy(obs), infos

    def step(self, given: Tensor) -> tuple[Any, ...]:
        *values, infos = self.unwrapped.step(given.numpy())
        return *(torch.from_numpy(value) for value in values), infos
