"""Legal actions that come inside an observation, as PettingZoo's environments give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict

MASK = "action_mask"


class ObservedMask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A Dict observation without its entry `action_mask`, which `action_masks()` tells; what is left is unwrapped where
    it is one entry alone."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Dict)
        rest = without_mask(dict(env.observation_space.spaces))
        self.observation_space = Dict(rest) if isinstance(rest, dict) else rest
        self.legal = np.ones(0, np.int8)

    def _kept(self, observation: dict[str, Any]) -> Any:
        self.legal = np.array(observation[MASK])  # a copy: the environment may go on writing its own
        return without_mask(observation)

    def action_masks(self) -> np.ndarray:
        return self.legal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._kept(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._kept(observation), reward, terminated, truncated, info


def without_mask(entries: Mapping[str, Any]) -> Any:
    """What else a Dict observation has, or its space: the entry itself where there is but one."""
    rest = {key: value for key, value in entries.items() if key != MASK}
    return next(iter(rest.values())) if len(rest) == 1 else rest


def with_mask(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment itself where its observations have no such entry."""
    space = env.observation_space
    return ObservedMask(env) if isinstance(space, Dict) and MASK in space.spaces and len(space.spaces) > 1 else env
