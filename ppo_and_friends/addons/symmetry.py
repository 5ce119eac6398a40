"""Robots whose left and right are alike: what was learned of one side is learned of the other.

`MirrorCopies` learns from each step as it was and as it would have been in a mirror; `MirrorLoss` asks the policy to do
in a mirror what it does without one. Both are compared in arXiv:1909.10142; the loss is arXiv:1801.08093's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ppo_and_friends.addons.augment import Copies
from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.errors import UserError
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec, Mirror, Tree, leaves


class Exchange(nn.Module):
    """`[..., columns]` in a mirror.

    Raises:
        UserError: twice in a mirror is not what it was, or there are other columns.
    """

    order: Tensor
    signs: Tensor

    def __init__(self, order: tuple[int, ...], signs: tuple[float, ...], columns: int, what: str) -> None:
        super().__init__()
        if sorted(order) != list(range(columns)) or len(signs) != columns:
            raise UserError(
                f"The mirror of {what} has order {order} and signs {signs}: give each of the {columns} columns once, "
                "and a sign for each."
            )
        twice = [(order[order[i]], signs[i] * signs[order[i]]) for i in range(columns)]
        if twice != [(i, 1.0) for i in range(columns)]:
            wrong = next(i for i in range(columns) if twice[i] != (i, 1.0))
            raise UserError(
                f"The mirror of {what} does not undo itself: column {wrong}, mirrored twice, is {twice[wrong][1]:g} "
                f"times column {twice[wrong][0]}."
            )
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("signs", torch.tensor(signs), persistent=False)

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor.index_select(-1, self.order) * self.signs


class Mirrored(nn.Module):
    """A group's observations and actions in a mirror.

    Raises:
        UserError: the environment has no mirror, or spaces that cannot be mirrored by exchanging columns.
    """

    def __init__(self, spec: GroupSpec, who: str) -> None:
        super().__init__()
        mirror: Mirror | None = spec.mirror
        if mirror is None:
            raise UserError(
                f"The add-on {who} needs a task that says what its mirror is (`mirror`): this one does not."
            )
        part, *others = spec.actor
        if others or len(part.shape) > 1 or spec.action.kind != "box":
            raise UserError(f"The add-on {who} mirrors observations that are one vector, and actions of a Box.")
        self.observation = Exchange(mirror.observation, mirror.observation_signs, sum(part.shape), "observations")
        self.action = Exchange(mirror.action, mirror.action_signs, spec.action.columns, "actions")
        low, high = (torch.tensor(bounds) for bounds in (spec.action.low, spec.action.high))
        ends = self.action(low), self.action(high)
        if not (torch.equal(torch.minimum(*ends), low) and torch.equal(torch.maximum(*ends), high)):
            raise UserError(
                f"The mirror of actions exchanges columns with other bounds: {spec.action.low}, {spec.action.high}."
            )


@dataclass(frozen=True)
class MirrorCopies:
    """Two samples of each step: as it was, and in a mirror.

    In the mirror it was played by the mirror image of the policy, whose probability is that of the original. So this is
    what the ratio of a copy is measured from (as in arXiv:2403.04359): while the policy is not symmetric, its own
    probability of what its image did may be next to nothing, and the gradient of its logarithm without bounds."""

    def make(self, spec: GroupSpec) -> Addon:
        """Raises UserError where there is no mirror, or one that does not fit."""
        return _MirrorCopies(spec)


class _MirrorCopies(Copies):
    def __init__(self, spec: GroupSpec) -> None:
        super().__init__(2)
        self.mirror = Mirrored(spec, "MirrorCopies")

    def seen(self, observation: Tree) -> Tree:
        (part,) = leaves(observation)
        return torch.stack((part, self.mirror.observation(part)))

    def taken(self, actions: Tensor) -> Tensor:
        return torch.stack((actions, self.mirror.action(actions)), 2).flatten(1, 2)

    def log_probs(self, rollout: Rollout, parameters: Tensor, actions: Tensor, context: Context) -> Tensor:
        return self.tiled(rollout.log_probs)


@dataclass(frozen=True)
class MirrorLoss:
    """Adds weight * |mode(s) - mirror(mode(mirror(s)))|^2, summed over the action's columns, to the policy's loss."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise UserError(f"MirrorLoss.weight is {self.weight}, but must be 0 or more.")

    def make(self, spec: GroupSpec) -> Addon:
        """Raises UserError where there is no mirror, or one that does not fit."""
        return _MirrorLoss(spec, self.weight)


class _MirrorLoss(Addon):
    recordable = True
    trains = True
    invents = True
    needs = 1
    reports = ("mirror_loss",)

    def __init__(self, spec: GroupSpec, weight: float) -> None:
        super().__init__()
        self.mirror, self.weight = Mirrored(spec, "MirrorLoss"), weight

    def extras(self, rollout: Rollout, context: Context) -> tuple[Tensor, ...]:
        """The mirrored observation, normalised."""
        (part,) = leaves(rollout.obs.actor)
        return leaves(context.net.actor_norm(self.mirror.observation(part[:-1])))

    def loss(self, batch: Batch, net: Net) -> tuple[Tensor, ...]:
        def mode(normalized: Tree) -> Tensor:
            return net.distribution.mode(net.policy(normalized, batch.mask, batch.actor_states[0], batch.first))

        difference = mode(batch.actor) - self.mirror.action(mode(batch.extras[0]))
        squared = difference.square().sum(-1)
        return self.weight * squared, squared
