"""Flags of legal actions, and those that come inside an observation, as PettingZoo's environments give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict

MASK = "action_mask"


def flat_flags(flags: Any) -> np.ndarray:
    """One array, of flags that come as one or as one for each action column."""
    several = isinstance(flags, tuple | list) and np.ndim(flags[0]) > 0
    return np.concatenate([np.ravel(part) for part in flags]) if several else np.ravel(flags)


def write_flags(mask: np.ndarray, row: int, flags: Any) -> None:
    """Write one row of `mask` `[rows, K]`. Raises ValueError for flags of another number."""
    if flags is None:  # who says nothing forbids nothing
        mask[row] = True
        return
    flat = flat_flags(flags)
    if flat.shape != mask.shape[1:]:
        raise ValueError(f"{MASK} has {flat.size} flags where the action space has {mask.shape[1]} choices")
    mask[row] = flat


def without_choice(mask: np.ndarray, begins: np.ndarray) -> tuple[int, str] | None:
    """The first row that has no legal action, and what to say; `begins` is where each action column's flags begin."""
    possible = np.logical_or.reduceat(mask, begins, axis=1).all(axis=1)
    return None if possible.all() else (int(np.argmin(possible)), f"{MASK} leaves no legal action")


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
