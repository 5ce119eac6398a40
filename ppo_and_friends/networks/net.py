"""Actor and critic in one module: normalisers, bodies, cores and heads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppo_and_friends.config import NetConfig, PPOConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.cores import Gates
from ppo_and_friends.networks.distributions import make_distribution
from ppo_and_friends.networks.own import own_distribution
from ppo_and_friends.networks.trunk import Trunk
from ppo_and_friends.stats import FixedMoments, Moments
from ppo_and_friends.types import GroupSpec, Obs, TensorSpec, Tree, leaves


class Normalizer(nn.Module):
    """Running moments for each part of an observation; images pass as they are (bodies scale them)."""

    def __init__(self, specs: tuple[TensorSpec, ...], enabled: bool, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.parts = nn.ModuleList(
            Moments(spec.shape) if enabled and spec.dtype != torch.uint8 else nn.Identity() for spec in specs
        )

    def forward(self, observation: Tree) -> Tree:
        normalized = tuple(
            part.normalize(tensor).clamp(-self.clip, self.clip) if isinstance(part, Moments) else tensor
            for part, tensor in zip(self.parts, leaves(observation), strict=True)
        )
        return normalized if isinstance(observation, tuple) else normalized[0]

    def measure(self, observation: Tree, weight: Tensor) -> None:
        """Measure what was seen, `[T, N, ...]`, with weights `[T, N]`."""
        for part, tensor in zip(self.parts, leaves(observation), strict=True):
            if isinstance(part, Moments):
                part.measure(tensor, weight)

    def moments(self) -> list[Moments]:
        return [part for part in self.parts if isinstance(part, Moments)]


class Action(NamedTuple):
    """What an actor decided for each row."""

    actions: Tensor  # [N, columns], raw: what the distribution sampled
    environment_actions: Tensor  # [N, columns], in the environment's units and bounds
    parameters: Tensor  # [N, P], of the distribution
    state: Tensor  # [N, S], the core's, after this step


class Net(nn.Module):
    """One policy and its critic. Observations given to it are raw unless a name says `normalized`.

    Raises:
        UserError: settings that the spaces do not allow.
    """

    def __init__(self, spec: GroupSpec, config: NetConfig, ppo: PPOConfig) -> None:
        super().__init__()
        if config.shared and not spec.symmetric:
            raise UserError(
                "net.shared is True, but the critic sees another observation than the actor: use separate bodies."
            )
        if config.shared and config.critic_core != "same":
            raise UserError(
                f"net.shared is True, but net.critic_core is '{config.critic_core}': what is shared has one memory, so "
                "leave it at 'same', or set net.shared to False."
            )
        self.shared, self.warm_up = config.shared, config.warm_up
        self.actor_norm = Normalizer(spec.actor, ppo.normalize_observations, ppo.observation_clip)
        self.critic_norm = (
            self.actor_norm
            if spec.symmetric
            else Normalizer(spec.critic, ppo.normalize_observations, ppo.observation_clip)
        )
        self.value_norm = Moments() if ppo.normalize_values else FixedMoments()
        self.actor_trunk = self.critic_trunk = Trunk(spec.actor, config.actor, config, config.core)
        if not self.shared:
            kind = config.core if config.critic_core == "same" else config.critic_core
            self.critic_trunk = Trunk(spec.critic, config.critic, config, kind)
        self.actor_body, self.critic_body = self.actor_trunk.body, self.critic_trunk.body
        self.actor_core, self.critic_core = self.actor_trunk.core, self.critic_trunk.core
        if config.custom_distribution:
            self.distribution = own_distribution(config.custom_distribution, self.actor_trunk.features, spec, config)
        else:
            _check_flags(spec)
            self.distribution = make_distribution(self.actor_trunk.features, spec.action, config)
        self.value_head = nn.Linear(self.critic_trunk.features, 1)
        if config.initialization == "orthogonal":
            initialize_orthogonal(self, (self.distribution, 0.01), (self.value_head, 1.0))
            for module in self.modules():
                if isinstance(module, Gates):
                    module.initialize_orthogonal(config.chunk_length)
        elif config.initialization == "zero_biases":
            initialize_zero_biases(self)

    # ---- acting: one step of N rows

    def act(self, obs: Obs, state: Tensor, first: Tensor, noise: Tensor, draw: Tensor | None) -> Action:
        """Decide for `[N]` rows; the core forgets where `first`. Without `draw`, the most likely actions."""
        features, state = self.actor_trunk.step(self.actor_norm(obs.actor), state, first)
        parameters = self.distribution(features, obs.mask)
        if draw is None:
            actions = self.distribution.mode(parameters)
        else:
            actions = self.distribution.sample(parameters, features, noise, draw)
        return Action(actions, self.distribution.to_environment(actions), parameters, state)

    # ---- learning: chunks of L steps of B rows, observations already normalised

    def values(self, normalized: Tree, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Values `[L, B]` in normalised units, and the critic's state after each step `[L, B, S]`."""
        features, states = self.critic_trunk.unroll(normalized, state, first)
        return self.value_head(features).squeeze(-1), states

    def policy(self, normalized: Tree, mask: Tensor, state: Tensor, first: Tensor) -> Tensor:
        """Distribution parameters `[L, B, P]`."""
        return self.distribution(self.actor_trunk.unroll(normalized, state, first)[0], mask)

    def policy_and_values(
        self, actor: Tree, critic: Tree, mask: Tensor, actor_state: Tensor, critic_state: Tensor, first: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Parameters `[L, B, P]` and values `[L, B]` to be learned from; what is shared runs once."""
        features, _ = self.actor_trunk.unroll(actor, actor_state, first, self.warm_up)
        critic_features = features
        if not self.shared:
            critic_features, _ = self.critic_trunk.unroll(critic, critic_state, first, self.warm_up)
        return self.distribution(features, mask), self.value_head(critic_features).squeeze(-1)

    def policy_modules(self) -> nn.ModuleList:
        """What acting needs; what the critic alone trains is the rest."""
        return nn.ModuleList((self.actor_body, self.actor_core, self.distribution))  # type: ignore[arg-type]

    def observation_moments(self) -> list[Moments]:
        shared = self.critic_norm is self.actor_norm
        return self.actor_norm.moments() + ([] if shared else self.critic_norm.moments())


def _check_flags(spec: GroupSpec) -> None:
    choices = sum(spec.action.sizes)
    if spec.mask not in (0, choices):
        raise UserError(
            f"The environment gives {spec.mask} flags of legal actions a row, but {spec.action.kind} actions have "
            f"{choices} choices: give one flag for each, or none."
        )


def initialize_orthogonal(net: nn.Module, *heads: tuple[nn.Module, float]) -> None:
    """Orthogonal weights with gain sqrt(2), zero biases, and each head with a gain of its own (arXiv:2006.05990)."""
    gains = {id(module): gain for head, gain in heads for module in head.modules()}
    for module in _layers(net):
        nn.init.orthogonal_(module.weight, gains.get(id(module), math.sqrt(2)))
    initialize_zero_biases(net)


def initialize_zero_biases(net: nn.Module) -> None:
    """Biases of 0, weights as torch made them: the default of rl_games."""
    for module in _layers(net):
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, Gates):
            module.initialize_zero_biases()


def _layers(net: nn.Module) -> Iterator[nn.Linear | nn.Conv1d | nn.Conv2d]:
    return (module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d))
