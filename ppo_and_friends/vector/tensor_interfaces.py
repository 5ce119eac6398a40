"""The interfaces of environments that hold their batch as tensors, read into one shape (`Answer`).

An object is known by its attributes:

interface   looked for                                    who has it                                       step gives
isaacgym    num_acts, reset_buf, progress_buf, ...        IsaacGymEnvs' VecTask                            4 values
rsl_rl      num_actions, get_observations                 rsl_rl's VecEnv (5.x), wrappers made for it      4 values
gymnasium   single_action_space                           Isaac Lab, mjlab, Gymnasium's own vector         5 values
                                                          environments behind NumpyToTorch
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.seeding import seed_globals
from ppo_and_friends.types import ActionSpace


class Answer(NamedTuple):
    """What one step of any interface comes to. Flags are `[N]` bool."""

    obs: Any
    reward: Tensor  # [N]
    terminated: Tensor
    truncated: Tensor
    extras: Any
    waits: Tensor | None  # rows that the next step will reset; None where it never does


class Interface(ABC):
    """One environment seen through one interface."""

    needs: tuple[str, ...]  # attributes by which it is known
    count: int  # of values that `step` of the environment gives
    env: Any
    space: Any  # of one row's actions

    @abstractmethod
    def look(self) -> Any:
        """An observation of the right shape, before the first reset."""

    @abstractmethod
    def reset(self, seed: int) -> tuple[Any, Tensor | None]:
        """The first observation of every row, and `Answer.waits`."""

    @abstractmethod
    def read(self, values: Sequence[Any]) -> Answer:
        """Name what `step` gave."""


class IsaacGym(Interface):
    """IsaacGymEnvs' VecTask.

    Nearly all of its tasks flag an end together with the last observation, and reset in the next step: after that
    step's physics, or before it (then the first observation of an episode is already one step old). A row whose
    `progress_buf` is 0 when its end is flagged was reset at once, as AnymalTerrain does.

    What cannot be known:
    - a fall in the very last step of an episode is reported as a time-out, and bootstrapped as one;
    - AnymalTerrain clears `progress_buf` before time-outs are read off it, so all its ends count as falls;
    - a start that fails at once is taken for a row that was reset at once;
    - rows have no generators of their own: the global ones of torch, NumPy and Python are seeded.
    """

    needs = ("step", "reset", "num_envs", "num_acts", "action_space", "reset_buf", "progress_buf", "max_episode_length")
    count = 4

    def __init__(self, env: Any) -> None:
        self.env, self.task = env, owner(env, "progress_buf")
        self.space = env.action_space

    def look(self) -> Any:
        return self.env.reset()

    def reset(self, seed: int) -> tuple[Any, Tensor | None]:
        # A VecTask's own reset hands out zeros and resets nothing. Here every row is ended, through both buffers that
        # a task may look at, and the step that resets them is taken with an action that counts nowhere.
        seed_globals(seed)
        self.task.reset_buf.fill_(1)
        self.task.progress_buf.fill_(int(self.task.max_episode_length))
        device = getattr(self.task, "rl_device", self.task.reset_buf.device)
        answer = self.read(self.env.step(torch.zeros(self.task.num_envs, self.task.num_acts, device=device)))
        return answer.obs, answer.waits

    def read(self, values: Sequence[Any]) -> Answer:
        obs, reward, done, extras = values
        terminated, truncated = _ends(done, extras)
        waits = done.bool() & (self.task.progress_buf != 0).to(done.device)
        return Answer(obs, reward, terminated, truncated, extras, waits)


class RslRl(Interface):
    """rsl_rl's VecEnv: ended rows are reset at once, and ends without `time_outs` in the extras are true ones.

    The interface has no reset; where the object has none either, rows go on from where they are. Isaac Lab's and
    mjlab's wrappers for rsl_rl have one."""

    needs = ("step", "num_envs", "num_actions", "get_observations")
    count = 4

    def __init__(self, env: Any) -> None:
        self.env = env
        self.space = Unbounded((env.num_actions,))

    def look(self) -> Any:
        return self.env.get_observations()

    def reset(self, seed: int) -> tuple[Any, Tensor | None]:
        own = getattr(self.env, "seed", None)  # a method, or the number that it was made with
        (own if callable(own) else seed_globals)(seed)
        getattr(self.env, "reset", _stay)()
        return self.env.get_observations(), None

    def read(self, values: Sequence[Any]) -> Answer:
        obs, reward, done, extras = values
        return Answer(obs, reward, *_ends(done, extras), extras, None)


class GymVector(Interface):
    """Gymnasium's vector interface with tensors.

    Isaac Lab and mjlab do not say how they reset, and do it at once; others say it in `metadata["autoreset_mode"]`.
    Where `cfg.is_finite_horizon` is True, as those two have it, a time limit is a true end.
    """

    needs = ("step", "reset", "num_envs", "single_action_space")
    count = 5

    def __init__(self, env: Any) -> None:
        self.env = env
        base = getattr(env, "unwrapped", env)
        self.space = owner(env, "single_action_space").single_action_space
        config = getattr(base, "cfg", None)
        self._finite = bool(getattr(config, "is_finite_horizon", False))
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
        mode = getattr(mode, "name", mode)
        if mode == "DISABLED" or not getattr(config, "auto_reset", True):
            raise UserError(f"{type(base).__name__} leaves ended rows as they are: make it with autoreset switched on.")
        self._waits = mode == "NEXT_STEP"

    def look(self) -> Any:
        return self.env.reset()[0]

    def reset(self, seed: int) -> tuple[Any, Tensor | None]:
        return self.env.reset(seed=seed)[0], None

    def read(self, values: Sequence[Any]) -> Answer:
        obs, reward, terminated, truncated, extras = values
        terminated, truncated = terminated.bool(), truncated.bool()
        if self._finite:
            terminated, truncated = terminated | truncated, torch.zeros_like(truncated)
        return Answer(obs, reward, terminated, truncated, extras, terminated | truncated if self._waits else None)


INTERFACES: dict[str, type[IsaacGym | RslRl | GymVector]] = {
    "isaacgym": IsaacGym,
    "rsl_rl": RslRl,
    "gymnasium": GymVector,
}


def recognize(env: Any, interface: str, name: str) -> Interface:
    """`env` behind the interface asked for, or behind the first whose attributes it has all of.

    Raises:
        UserError: it lacks some of them, or has none of the interfaces.
    """
    asked = INTERFACES if interface == "auto" else {interface: INTERFACES[interface]}
    lacks = {one: [what for what in kind.needs if not _has(env, what)] for one, kind in asked.items()}
    for one, missing in lacks.items():
        if not missing:
            return asked[one](env)
    wanted = "; ".join(f"{one} (it lacks {', '.join(missing)})" for one, missing in lacks.items())
    raise UserError(
        f"{name} is a {type(env).__name__}, which has not the interface {wanted}: "
        "wrap it into one of them, or use GymEnv for environments that are made one by one."
    )


class Unbounded(NamedTuple):
    """Actions without bounds, `shape` for each row."""

    shape: tuple[int, ...]
    low: float = -np.inf
    high: float = np.inf


def action_space(space: Any, name: str) -> ActionSpace:
    """Gymnasium's Box, Discrete and MultiDiscrete, the old gym's, or mjlab's Box.

    Raises:
        UserError: anything else.
    """
    if hasattr(space, "low") and hasattr(space, "high"):
        low, high = (np.broadcast_to(np.asarray(side, float), space.shape).ravel() for side in (space.low, space.high))
        return ActionSpace("box", (), tuple(low.tolist()), tuple(high.tolist()))
    if hasattr(space, "nvec"):
        return ActionSpace("multi_discrete", tuple(int(n) for n in np.ravel(space.nvec)))
    if hasattr(space, "n") and space.shape == ():
        return ActionSpace("discrete", (int(space.n),))
    raise UserError(f"{name} takes actions from {space}; wrap it to take Box, Discrete or MultiDiscrete.")


def owner(env: Any, attribute: str) -> Any:
    """`env`, or what it wraps where Gymnasium's wrappers do not pass `attribute` on."""
    return env if hasattr(env, attribute) else env.unwrapped


def _has(env: Any, attribute: str) -> bool:
    return hasattr(env, attribute) or hasattr(getattr(env, "unwrapped", None), attribute)


def _ends(done: Tensor, extras: Any) -> tuple[Tensor, Tensor]:
    """(terminated, truncated) from one flag and the time-outs of the extras."""
    done, late = done.bool(), extras.get("time_outs")
    if late is None:
        return done, torch.zeros_like(done)
    late = late.bool()
    return done & ~late, done & late


def _stay() -> None:
    """What an environment without a reset does instead."""
