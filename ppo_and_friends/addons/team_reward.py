"""A reward that a team shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ppo_and_friends.addons.base import RAW, Addon, Context
from ppo_and_friends.errors import UserError
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec


@dataclass(frozen=True)
class TeamReward:
    """Each agent learns from the sum of its group's rewards in the same environment and step; scores are not changed.

    So agents maximise what is reported, the return of the team, where an environment rewards them one by one
    (arXiv:2006.07869, section 4)."""

    def make(self, spec: GroupSpec) -> Addon:
        """Raises UserError for an environment of a single agent."""
        if spec.agents == GroupSpec.agents:
            raise UserError("TeamReward shares rewards among agents, but this environment has one: leave it out.")
        return _Shared(len(spec.agents))


class _Shared(Addon):
    recordable = True
    place = RAW

    def __init__(self, agents: int) -> None:
        super().__init__()
        self.agents = agents

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        own = torch.where(rollout.active, rollout.rewards, 0).unflatten(1, (-1, self.agents))
        return replace(rollout, rewards=own.sum(-1, keepdim=True).expand_as(own).flatten(1))
