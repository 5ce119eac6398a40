"""Rows of a rollout multiplied by views of the same situation: more to learn from each step that was played.

A copy has the rewards and ends of its original. What the acting policy would have thought of a view is computed with
that policy, so that the first minibatch's ratio is 1 for views too; values and advantages are each copy's own. Only
originals are counted: timesteps, scores and logs are those of the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppo_and_friends.addons.base import COPIES, Addon, Context
from ppo_and_friends.errors import UserError
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec, Obs, Tree, Views, tree_map


class Copies(Addon):
    """Copy k of row n is row n * copies + k of what is learned from; copy 0 is the original."""

    recordable = True
    invents = True
    place = COPIES

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies

    def seen(self, observation: Tree) -> Tree:
        """The actor's observation `[B, ...]` as each copy has it, `[K, B, ...]`."""
        raise NotImplementedError

    def taken(self, actions: Tensor) -> Tensor:
        """Actions `[T, N, columns]` as each copy takes them, `[T, N * K, columns]`."""
        return self.tiled(actions)

    def tiled(self, tensor: Tensor) -> Tensor:
        """`[A, N, ...]` to `[A, N * K, ...]`."""
        return tensor.repeat_interleave(self.copies, 1)

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        names = ("rewards", "raw_rewards", "terminated", "truncated", "active", "first", "age", "actor_states")
        same = {name: self.tiled(getattr(rollout, name)) for name in names}
        index, copies = rollout.final_index, torch.arange(self.copies, device=rollout.rewards.device)
        final = self._spread(rollout.final) if index is None else self._spread_rows(rollout.final)
        obs, actions = self._spread(rollout.obs), self.taken(rollout.actions)
        parameters = self.policy_parameters(rollout, obs, context)
        return replace(
            rollout,
            obs=obs,
            final=final,
            final_index=None if index is None else (index.unsqueeze(1) * self.copies + copies).flatten(),
            actions=actions,
            parameters=parameters,
            log_probs=self.log_probs(rollout, parameters, actions, context),
            logs=self._once(rollout.logs),
            continues=None if rollout.continues is None else self.tiled(rollout.continues),
            **same,
        )

    def _spread(self, obs: Obs) -> Obs:
        """`[A, N, ...]` to `[A, N * K, ...]`. A critic of its own sees each copy as it saw the original."""

        def joined(copied: Tensor, original: Tensor) -> Tensor:
            return copied.unflatten(1, original.shape[:2]).movedim(0, 2).flatten(1, 2)

        flat = tree_map(lambda part: part.flatten(0, 1), obs.actor)
        actor = tree_map(joined, self.seen(flat), obs.actor)
        return Obs(actor, actor if obs.critic is obs.actor else tree_map(self.tiled, obs.critic), self.tiled(obs.mask))

    def _spread_rows(self, obs: Obs) -> Obs:
        """The same of cut rows alone, `[M, ...]` to `[M * K, ...]`."""
        return self._spread(obs.map(lambda part: part.unsqueeze(0))).map(lambda part: part[0])

    def policy_parameters(self, rollout: Rollout, obs: Obs, context: Context) -> Tensor:
        """Of the distributions of all copies; the originals keep what they were played with."""
        net, before = context.net, tree_map(lambda part: part[:-1], obs.actor)
        state = rollout.actor_states.new_zeros(obs.mask.shape[1], 0)
        first = self.tiled(rollout.first[:-1])
        parameters = net.policy(net.actor_norm(before), obs.mask[:-1], state, first)
        parameters[:, :: self.copies] = rollout.parameters
        return parameters

    def log_probs(self, rollout: Rollout, parameters: Tensor, actions: Tensor, context: Context) -> Tensor:
        """What the ratios of all copies are measured from, `[T, N * K]`."""
        found = context.net.distribution.log_prob(parameters, actions)
        found[:, :: self.copies] = rollout.log_probs
        return found

    def _once(self, logs: Tensor) -> Tensor:
        """`[T, K, N]`: what is summed over rows counts in the original alone."""
        spread = logs.new_zeros(*logs.shape[:2], logs.shape[2] * self.copies)
        spread[:, :, :: self.copies] = logs
        return spread


@dataclass(frozen=True)
class Augment:
    """Learn from every view that the environment has of an observation: its method `augment_observation`, which takes
    one observation and gives K of them, the first of them as it was."""

    def make(self, spec: GroupSpec) -> Addon:
        """Raises UserError where the environment has no such method."""
        if spec.views is None:
            raise UserError(
                "The add-on Augment needs an environment with a method augment_observation(observation), which gives "
                "[K, *shape] views of it with the same meaning, the first of them as it was: this one has none."
            )
        return _Augmented(spec.views)


class _Augmented(Copies):
    recordable = False  # the environment's own function may do anything

    def __init__(self, views: Views) -> None:
        super().__init__(views.copies)
        self.views = views

    def seen(self, observation: Tree) -> Tree:
        return self.views.of(observation)
