"""One group of rows with all that belongs to it: a net, its friends, its learner, its storage."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.addons.rewards import reward_addons
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.learner import Learner
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rollout import Rollout, Targets
from ppo_and_friends.rows import Rows
from ppo_and_friends.schedules import Progress
from ppo_and_friends.stats import EpisodeTracker, Moments, RecentEpisodes
from ppo_and_friends.targets import (
    SUMS,
    advantage_sums,
    compute_targets,
    explained_variance,
    make_batch,
    measure,
)
from ppo_and_friends.types import GroupSpec

EPISODES = 3  # entries of `Group.prepare`'s sums behind those of the advantages: episodes, their returns and lengths
COUNT, ROWS, AGENTS = "count", "rows", "agents"  # what a named number is divided by: nothing, or steps of these


class Group:
    """Facts to gradients for one group; `PPO` decides when."""

    def __init__(self, spec: GroupSpec, experiment: Experiment, comm: Comm, steps: int, generator: Generator) -> None:
        self.config, self.comm, self.generator = experiment.ppo, comm, generator
        self.net = Net(spec, experiment.net, experiment.ppo).to(generator.device)
        configs = (*reward_addons(experiment.ppo), *experiment.addons)
        made = sorted((config.make(spec) for config in configs), key=lambda addon: addon.place)
        self.addons: nn.ModuleList = nn.ModuleList(made).to(generator.device)
        counts = torch.zeros(comm.size, dtype=torch.int64)
        counts[comm.rank] = spec.rows
        comm.sum_(counts)
        self.total_rows = int(counts.sum())
        self.copies = copies = self._copies()
        places = (copies * count for count in (spec.rows, int(counts[: comm.rank].sum()), self.total_rows))
        self.learner = Learner(self.net, self._addons(), experiment.ppo, comm, *places, length=experiment.net.length)
        self.rows = Rows(spec, self.net, steps, self.learner.length, generator)
        self.tracker, self.recent = EpisodeTracker(spec.environments, generator.device), RecentEpisodes()
        self._reported = [(name, COUNT if name in spec.counts else ROWS) for name in spec.logs]
        self._reported += [(name, AGENTS) for addon in self._addons() for name in addon.logs]
        self.extra = SUMS + EPISODES + len(self._reported)
        self.carry = self.net.critic_core.start(copies * spec.rows).to(generator.device)

    def _addons(self) -> list[Addon]:
        return [addon for addon in self.addons if isinstance(addon, Addon)]

    def _copies(self) -> int:
        """What add-ons make of each row. Raises UserError where a net would have to remember what was not played."""
        inventing = any(addon.invents for addon in self._addons())
        if inventing and self.net.actor_core.state_size + self.net.critic_core.state_size:
            raise UserError(
                "net.core remembers, but an add-on learns from copies or mirror images of each row, of which there is "
                "nothing to remember, because they were never played: take net.core identity, or leave the add-on out."
            )
        return prod(addon.copies for addon in self._addons())

    def early_moments(self) -> list[Moments]:
        """What may move before the update: nothing that the policy depends on."""
        return [self.net.value_norm, *(moments for addon in self._addons() for moments in addon.all_moments())]

    def late_moments(self) -> list[Moments]:
        return self.net.observation_moments()

    def seeded_moments(self) -> list[Moments]:
        """What a first rollout seeds. The value's are not among them: what the critic makes of observations as they are
        at first, thousands of newtons too, would be part of its own aim for long."""
        return [*(moments for addon in self._addons() for moments in addon.seeded_moments()), *self.late_moments()]

    def begin_iteration(self, progress: Progress) -> None:
        for addon in self._addons():
            addon.begin_iteration(progress)

    @torch.no_grad()
    def prepare(self, rollout: Rollout, progress: Progress) -> tuple[Rollout, Targets, Tensor]:
        """Add-ons, targets and this rank's measurements: (rollout, targets, sums to be reduced, float64).

        The sums are `[extra]`: SUMS of the advantages, EPISODES, then one for each of GroupSpec.logs and of
        what add-ons log."""
        context = Context(self.net, self.comm, progress, self.generator)
        raw = rollout
        for addon in self._addons():
            rollout = addon.transform(rollout, context)
        targets = compute_targets(self.net, rollout, self.carry, self.config, self.learner.length)
        asked = [addon.extras(rollout, context) for addon in self.learner.addons]
        targets = replace(targets, extras=tuple(extra for own in asked for extra in own))
        if self.carry.shape[1]:
            self.carry.copy_(targets.critic_carry)
        measure(self.net, rollout, targets)
        if raw.restarted:
            self.tracker.restart()
        episodes = self.tracker.update(raw.raw_rewards, raw.ended, raw.active)
        told, measured = rollout.logs.double().tensor_split([len(self.rows.spec.logs)], 1)
        measured = measured * rollout.active.unsqueeze(1)
        sums = torch.cat((advantage_sums(targets), episodes, told.sum((0, 2)), measured.sum((0, 2))))
        return rollout, targets, sums

    @torch.no_grad()
    def batch(self, rollout: Rollout, targets: Targets, sums: Tensor) -> Batch:
        """What is learned from; `sums` are those of all ranks."""
        for moments in self.early_moments():
            moments.absorb()
        return make_batch(self.net, rollout, targets, sums[:SUMS], self.config, self.learner.length)

    def learn(self, batch: Batch, seed: int, iteration: int, progress: Progress) -> dict[str, float]:
        """The update; observation moments move after it."""
        metrics = self.learner.update(batch, seed, iteration, progress)
        for moments in self.late_moments():
            moments.absorb()
        return metrics

    def report(self, sums: list[float], samples: int) -> dict[str, float]:
        """Metrics of a rollout of `samples` steps from the sums of all ranks."""
        there = max(1.0, sums[0] / self.copies)  # samples of agents that were there, the only ones add-ons measure
        divisors = {COUNT: 1, ROWS: samples, AGENTS: there}
        named = zip(self._reported, sums[SUMS + EPISODES :], strict=True)
        means = {f"rollout_{name}": value / divisors[per] for (name, per), value in named}
        return {"explained_variance": explained_variance(sums[:SUMS])} | means

    def shared_state(self) -> dict[str, Any]:
        """What is the same on every rank."""
        return {
            "net": _copy(self.net),
            "addons": _copy(self.addons),
            "learner": self.learner.state(),
        }

    def load_shared_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.addons.load_state_dict(state["addons"])
        self.learner.load_state(state["learner"])

    def own_state(self) -> dict[str, Any]:
        """What only this rank knows."""
        return {
            "returns": self.tracker.returns.clone(),
            "lengths": self.tracker.lengths.clone(),
            "carry": self.carry.clone(),
            "addons": [addon.state() for addon in self._addons()],
        }

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.tracker.returns.copy_(state["returns"])
        self.tracker.lengths.copy_(state["lengths"])
        self.carry.copy_(state["carry"])
        for addon, saved in zip(self._addons(), state["addons"], strict=True):
            addon.load_state(saved)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    """A state dict that further training does not change."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
