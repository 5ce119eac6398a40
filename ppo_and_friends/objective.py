"""What a minibatch says about a net and its add-ons: one number to descend, and sums to report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppo_and_friends.addons.base import Addon
from ppo_and_friends.config import PPOConfig
from ppo_and_friends.functional.losses import Losses, ppo_losses
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Net

# What `Objective` sums over samples, in this order; what add-ons report comes behind.
SUMS = ("weight", "kl", "reference_kl", "policy_loss", "value_loss", "entropy", "clip_fraction")


class Objective(nn.Module):
    """All that is trained, as one function of a batch: its parameters are those of the net and of its add-ons."""

    def __init__(self, net: Net, addons: Sequence[Addon], config: PPOConfig) -> None:
        super().__init__()
        self.net, self.config = net, config
        self.addons = nn.ModuleList(addons)
        self.sums = (*SUMS, *(name for addon in addons for name in addon.reports))

    def forward(self, batch: Batch, clip: Tensor, entropy_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss summed over samples, `sums` [K] without a gradient, and the distribution parameters [L, B, P]."""
        parameters, losses = self._losses(batch, clip, entropy_weight)
        weights = batch.weights
        loss = (losses.total * weights).sum()
        reported: list[Tensor] = []
        extras = batch.extras
        for addon in self.addons:
            assert isinstance(addon, Addon)
            own, extras = extras[: addon.needs], extras[addon.needs :]
            total, *parts = addon.loss(batch._replace(extras=own), self.net)
            loss = loss + (total * weights).sum()
            reported += parts
        with torch.no_grad():
            kl = self.net.distribution.kl(batch.parameters, parameters)
            reference = kl
            if batch.reference is not batch.parameters:
                reference = self.net.distribution.kl(parameters, batch.reference)  # rl_games' direction
            per_sample = torch.stack((torch.ones_like(kl), kl, reference, *losses[1:], *reported)).flatten(1)
            sums = torch.mv(per_sample, weights.flatten())
        return loss, sums, parameters

    def _losses(self, batch: Batch, clip: Tensor, entropy_weight: Tensor) -> tuple[Tensor, Losses]:
        config, distribution = self.config, self.net.distribution
        parameters, values = self.net.policy_and_values(
            batch.actor, batch.critic, batch.mask, batch.actor_states[0], batch.critic_states[0], batch.first
        )
        losses = ppo_losses(
            distribution.log_prob(parameters, batch.actions),
            batch.log_probs,
            batch.advantages,
            distribution.entropy(parameters),
            distribution.bounds_loss(parameters, config.soft_bound)
            if config.bounds_weight
            else torch.zeros_like(values),
            values,
            batch.values,
            batch.returns,
            clip=clip,
            clip_shape=config.clip_shape,
            value_clip=config.value_clip,
            value_weight=config.value_weight,
            entropy_weight=entropy_weight,
            bounds_weight=config.bounds_weight,
        )
        return parameters, losses
