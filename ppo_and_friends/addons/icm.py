"""The intrinsic curiosity module (arXiv:1705.05363): a bonus for what its own model of the world did not foresee.

    phi(s)                  encoder
    phi(s), phi(s') -> a    inverse model, which teaches the encoder to see what actions bring about
    phi(s), a -> phi(s')    forward model; its error is the surprise

s' is what the action led to, before any reset; both observations are normalised as the policy's are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppo_and_friends.addons.action_code import ActionCode
from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.addons.bonus import Bonus, BonusConfig, layers
from ppo_and_friends.config import BodyConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.bodies import make_body
from ppo_and_friends.networks.net import Net, initialize_orthogonal
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec, Tree, as_tree, leaves, tree_map


@dataclass(frozen=True)
class ICM(BonusConfig):
    """Curiosity, for every action and observation that a policy takes."""

    beta: float = 0.2
    """Weight of the forward loss; that of the inverse loss is 1 - beta (the paper's beta, equation 7)."""
    encoder: BodyConfig = field(default_factory=lambda: BodyConfig((64, 64), activation="elu"))
    """phi. Without `hidden`, a vector is its own features and the inverse model teaches nothing."""
    models: BodyConfig = field(default_factory=lambda: BodyConfig((64,), activation="elu"))
    """Hidden layers of the inverse and of the forward model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta <= 1:
            raise UserError(f"ICM.beta is {self.beta}, but must be between 0 and 1: it weighs the forward loss.")

    def make(self, spec: GroupSpec) -> Addon:
        """Raises UserError for a kind of actions that cannot be predicted, or images too small for the encoder."""
        return _Curiosity(self, spec)


class _Curiosity(Bonus):
    reports = ("icm_forward_loss", "icm_inverse_loss")

    def __init__(self, config: ICM, spec: GroupSpec) -> None:
        super().__init__("icm", config, spec)
        self.beta, self.needs = config.beta, len(spec.actor) + 1
        self.code = ActionCode(spec.action, "ICM")
        self.encoder = make_body(spec.actor, config.encoder)
        features = self.encoder.features
        self.inverse = layers(2 * features, config.models, self.code.width)
        self.foresee = layers(features + self.code.width, config.models, features)
        initialize_orthogonal(self)

    def surprise(self, rollout: Rollout, context: Context) -> Tensor:
        seen = context.net.actor_norm(tree_map(lambda part: part[:-1], rollout.obs.actor))
        *reached, taken = self.extras(rollout, context)
        forward, _ = self.errors(seen, as_tree(reached), taken)
        return forward

    def extras(self, rollout: Rollout, context: Context) -> tuple[Tensor, ...]:
        """The observation reached, normalised, and the action as the environment took it."""
        reached = leaves(context.net.actor_norm(rollout.reached))
        return (*reached, context.net.distribution.to_environment(rollout.actions))

    def loss(self, batch: Batch, net: Net) -> tuple[Tensor, ...]:
        *reached, taken = batch.extras
        forward, inverse = self.errors(batch.actor, as_tree(reached), taken)
        return self.beta * forward + (1 - self.beta) * inverse, forward, inverse

    def errors(self, seen: Tree, reached: Tree, taken: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `[...]` of the forward model (half the squared distance) and of the inverse model.

        The forward model's aim passes no gradient on: else features would learn to be easily foreseen."""
        before = self.encoder(seen)
        after = self.encoder(reached)
        code = self.code(taken)
        foreseen = self.foresee(torch.cat((before, code), -1))
        forward = 0.5 * (foreseen - after.detach()).square().sum(-1)
        return forward, self.code.loss(self.inverse(torch.cat((before, after), -1)), code)
