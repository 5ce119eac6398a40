"""What every bonus for exploring has in common: a weight, a running scale, and its place in the rewards.

    reward seen by the critic = transformed reward of the environment + weight * surprise / scale

The scale is the running standard deviation of the discounted sum of a row's surprise, over all ranks, as of the rollout
before (arXiv:1810.12894, 2.4): what is new stays large beside what was new, whatever its units. The first rollout only
measures it, and has no bonus. The sum is one stream of reward with one critic, so a bonus is episodic: what a true end
cuts off is worth nothing, whether it was score or surprise, and where time runs out both are bootstrapped. Scores never
see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.addons.rewards import Scaler
from ppo_and_friends.config import BodyConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.bodies import Body
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.schedules import Progress, Schedule, constant
from ppo_and_friends.stats import Moments
from ppo_and_friends.types import GroupSpec, TensorSpec


@dataclass(frozen=True)
class BonusConfig:
    """What is set of any bonus."""

    weight: Schedule = constant(0.1)
    """Of the bonus in the rewards. With normalised rewards, 1 makes surprise matter as much as the score does."""
    gamma: float = 0.99
    """Discount of the sums whose spread is the bonus's scale; the returns are discounted by ppo.gamma."""
    lr: float = 0.0
    """Adam's step size for the add-on's own networks; 0 is the policy's, with its schedule."""
    max_grad_norm: float = math.inf
    """Bound of the norm of their gradient, which is apart from the policy's."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not isinstance(self.weight, Schedule):
            raise UserError(f"{name}.weight is {self.weight!r}: give a schedule, as constant({self.weight!r}) is one.")
        if not 0 <= self.gamma <= 1:
            raise UserError(f"{name}.gamma is {self.gamma}, but must be between 0 and 1.")
        if self.lr < 0 or self.max_grad_norm <= 0:
            raise UserError(
                f"{name} has lr {self.lr} and max_grad_norm {self.max_grad_norm}: give 0 or more and above 0."
            )
        if not all(0 <= value < math.inf for value in self.weight.values()):
            raise UserError(f"{name}.weight is {self.weight}, but must be 0 or more throughout.")


class Bonus(Addon):
    """Adds `surprise` to the rewards; logs the mean of what it added as `rollout_NAME_bonus`."""

    recordable = True
    weight: Tensor  # of this iteration's rollout

    def __init__(self, name: str, config: BonusConfig, spec: GroupSpec) -> None:
        super().__init__()
        self.logs = (f"{name}_bonus",)
        self.lr, self.max_grad_norm, self.schedule = config.lr, config.max_grad_norm, config.weight
        self.scaler = Scaler(config.gamma, spec.rows)
        self.register_buffer("weight", torch.zeros(()))

    def surprise(self, rollout: Rollout, context: Context) -> Tensor:
        """How unexpected each step was, `[T, N]`, 0 or more."""
        raise NotImplementedError

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        known = self.scaler.moments.count > 0
        self.scaler.running *= known  # what the seeding rollout left is of observations as they came
        surprise = torch.where(rollout.active, self.surprise(rollout, context), 0)
        bonus = self.scaler.transform(replace(rollout, rewards=surprise), context).rewards * (self.weight * known)
        logs = torch.cat((rollout.logs, bonus.unsqueeze(1)), 1)
        return replace(rollout, rewards=rollout.rewards + bonus, logs=logs)

    def seeded_moments(self) -> list[Moments]:
        return [moments for moments in self.all_moments() if moments is not self.scaler.moments]

    def begin_iteration(self, progress: Progress) -> None:
        self.weight.fill_(self.schedule(progress))

    def state(self) -> dict[str, Any]:
        return self.scaler.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.scaler.load_state(state)


def layers(width: int, config: BodyConfig, outputs: int) -> nn.Module:
    """From `[..., width]` through `config.hidden` to `[..., outputs]`, without an activation at the end."""
    body = Body((TensorSpec((width,)),), config)
    return nn.Sequential(body, nn.Linear(body.features, outputs))
