"""What training sees of a reward: shifted, scaled by the spread of its discounted return, clipped.

Scores see none of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ppo_and_friends.addons.base import SETTINGS, Addon, Context
from ppo_and_friends.config import PPOConfig
from ppo_and_friends.functional.returns import discounted_sums
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.stats import Moments
from ppo_and_friends.types import GroupSpec


@dataclass(frozen=True)
class RewardAffine:
    """reward * scale + shift."""

    scale: float
    shift: float

    def make(self, spec: GroupSpec) -> Addon:
        return _Affine(self)


class _Affine(Addon):
    recordable = True
    place = SETTINGS

    def __init__(self, config: RewardAffine) -> None:
        super().__init__()
        self.config = config

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        return replace(rollout, rewards=rollout.rewards * self.config.scale + self.config.shift)


@dataclass(frozen=True)
class RewardScaler:
    """Divide by the running standard deviation of the discounted return of each row (arXiv:2006.05990, C.7).

    The moments that divide a rollout are those of the rollouts before it: nothing has to be reduced first.
    """

    gamma: float

    def make(self, spec: GroupSpec) -> Addon:
        return Scaler(self.gamma, spec.rows)


class Scaler(Addon):
    """Divides rewards `[T, N]` as `RewardScaler` says."""

    recordable = True
    place = SETTINGS
    running: Tensor  # the discounted return of each row so far, [N]

    def __init__(self, gamma: float, rows: int) -> None:
        super().__init__()
        self.gamma = gamma
        self.moments = Moments()
        self.register_buffer("running", torch.zeros(rows), persistent=False)

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        ended = rollout.ended
        rewards = torch.where(rollout.active, rollout.rewards, 0)
        if rollout.restarted:
            self.running.zero_()
        sums = discounted_sums(rewards, ended, self.running, self.gamma)
        self.running.copy_(sums[-1] * ~ended[-1])
        self.moments.measure(sums, rollout.active)
        return replace(rollout, rewards=rollout.rewards * self.moments.inverse_std)

    def state(self) -> dict[str, Any]:
        return {"running": self.running.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.running.copy_(state["running"])


@dataclass(frozen=True)
class RewardClip:
    low: float
    high: float

    def make(self, spec: GroupSpec) -> Addon:
        return _Clip(self)


class _Clip(Addon):
    recordable = True
    place = SETTINGS

    def __init__(self, config: RewardClip) -> None:
        super().__init__()
        self.config = config

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        return replace(rollout, rewards=rollout.rewards.clamp(self.config.low, self.config.high))


def reward_addons(config: PPOConfig) -> tuple[Any, ...]:
    """The reward's way from the environment to the loss, as the settings ask; empty when they ask for nothing."""
    wanted: list[Any] = []
    if (config.reward_scale, config.reward_shift) != (1.0, 0.0):
        wanted.append(RewardAffine(config.reward_scale, config.reward_shift))
    if config.normalize_rewards:
        wanted.append(RewardScaler(config.gamma))
    if config.reward_clip != (-float("inf"), float("inf")):
        wanted.append(RewardClip(*config.reward_clip))
    return tuple(wanted)
