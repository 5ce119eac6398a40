"""Random network distillation (arXiv:1810.12894): a bonus for observations unlike those that were seen before.

A network that is never trained maps an observation to some numbers, and another one learns to tell them. It errs where
it has learned little: its error is the surprise. Both see the observation that an action led to, normalised by running
moments of their own and cut at 5, because a network that is never trained cannot adapt to the size of its input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.addons.bonus import Bonus, BonusConfig, layers
from ppo_and_friends.config import BodyConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.bodies import make_body
from ppo_and_friends.networks.net import Net, initialize_orthogonal
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.stats import Moments
from ppo_and_friends.types import GroupSpec, TensorSpec, as_tree, leaves

CUT = 5.0
IMAGES_APART = 8  # steps between the images that are measured: each is alike to the one before, and large


@dataclass(frozen=True)
class RND(BonusConfig):
    """Novelty, for every observation that a policy takes. Actions do not matter."""

    body: BodyConfig = field(default_factory=lambda: BodyConfig((64, 64), activation="relu"))
    """Of both networks."""
    predictor: BodyConfig = field(default_factory=lambda: BodyConfig((64,), activation="relu"))
    """Hidden layers that the trained network has on top."""
    outputs: int = 32
    """Numbers to be told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outputs < 1:
            raise UserError(f"RND.outputs is {self.outputs}, but must be 1 or more.")

    def make(self, spec: GroupSpec) -> Addon:
        return _Novelty(self, spec)


class _Novelty(Bonus):
    reports = ("rnd_loss",)

    def __init__(self, config: RND, spec: GroupSpec) -> None:
        super().__init__("rnd", config, spec)
        self.needs = len(spec.actor)
        self.moments = nn.ModuleList(Moments(part.shape) for part in spec.actor)
        parts = tuple(replace(part, dtype=torch.float32) for part in spec.actor)
        bare = BodyConfig(())
        self.target, self.predictor = (_network(parts, config, top) for top in (bare, config.predictor))
        initialize_orthogonal(self)
        self.target.requires_grad_(False)

    def surprise(self, rollout: Rollout, context: Context) -> Tensor:
        reached = self.extras(rollout, context)
        for part, moments in zip(reached, self._moments(), strict=True):
            every = IMAGES_APART if part.dtype == torch.uint8 else 1
            moments.measure(part[::every], rollout.active[::every])
        return self.error(reached)

    def extras(self, rollout: Rollout, context: Context) -> tuple[Tensor, ...]:
        return leaves(rollout.reached)

    def loss(self, batch: Batch, net: Net) -> tuple[Tensor, ...]:
        error = self.error(batch.extras)
        return error, error

    def error(self, reached: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error `[...]` of the numbers told of raw observations."""
        pairs = zip(reached, self._moments(), strict=True)
        seen = as_tree([moments.normalize(part).clamp(-CUT, CUT) for part, moments in pairs])
        return (self.predictor(seen) - self.target(seen)).square().mean(-1)

    def _moments(self) -> list[Moments]:
        return [item for item in self.moments if isinstance(item, Moments)]


def _network(parts: tuple[TensorSpec, ...], config: RND, top: BodyConfig) -> nn.Sequential:
    body = make_body(parts, config.body)
    return nn.Sequential(body, layers(body.features, top, config.outputs))  # type: ignore[arg-type]
