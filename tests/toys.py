"""Small environments and recorded data that the tests of the core share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ppo_and_friends.config import BodyConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import ActionSpace, GroupSpec, Obs, Spec, Step, TensorSpec, Tree, Views, tree_map

DISCRETE = ActionSpace("discrete", (4,))
MULTI_DISCRETE = ActionSpace("multi_discrete", (3, 2, 5))
MULTI_BINARY = ActionSpace("multi_binary", (2, 2, 2))
BOX = ActionSpace("box", (), (-2.0, 0.0), (2.0, 1.0))
VECTOR, STATE, IMAGE = TensorSpec((5,)), TensorSpec((7,)), TensorSpec((1, 12, 12), torch.uint8, "image")

BODY = BodyConfig((16,), ((4, 4, 4),))
NET = NetConfig(actor=BODY, critic=BODY)


def experiment(env: Any, net: NetConfig = NET, rows: int = 4, addons: tuple[Any, ...] = (), **ppo: Any) -> Experiment:
    """A few short updates; `ppo` are fields of PPOConfig."""
    settings = {"steps_per_row": 16, "epochs": 2, "minibatches": 3, "lr": PPOConfig().lr, **ppo}
    return Experiment(env, 10_000, rows, PPOConfig(**settings), net, addons=addons)


@dataclass(frozen=True)
class Toy:
    """Random observations, a reward for the right action, random ends."""

    action: ActionSpace = DISCRETE
    images: bool = False
    asymmetric: bool = False
    masked: bool = False
    terminates: float = 0.05
    truncates: float = 0.05
    absent: float = 0.0
    scale: float = 1.0  # of observations
    critic: tuple[TensorSpec, ...] = field(default=(STATE,), repr=False)
    vector: TensorSpec = VECTOR
    agents: int = 1  # in each environment, which ends for all of them at once
    views: bool = False  # whether an observation may be read backwards too

    def make(self, rows: int, threads: int = 1, render: bool = False) -> ToyVec:
        return ToyVec(self, rows)


class ToyVec:
    """A `VecEnv` that counts its resets and keeps the last actions it was given."""

    def __init__(self, config: Toy, environments: int) -> None:
        self.config, self.rows = config, environments * config.agents
        parts = (config.vector, IMAGE) if config.images else (config.vector,)
        group = GroupSpec(
            self.rows,
            parts,
            config.critic if config.asymmetric else parts,
            config.action,
            sum(config.action.sizes) if config.masked else 0,
            symmetric=not config.asymmetric,
            logs=("luck",),
            views=Views(2, backwards) if config.views else None,
            agents=("agent",) if config.agents == 1 else tuple(f"agent{number}" for number in range(config.agents)),
        )
        self.spec = Spec((group,), "toy", "none")
        self.generator = Generator()
        self.resets = 0
        self.actions = torch.zeros(0)
        self.obs = self._draw()

    def _part(self, spec: TensorSpec) -> Tensor:
        if spec.dtype == torch.uint8:
            return torch.randint(256, (self.rows, *spec.shape), generator=self.generator).to(torch.uint8)
        return (torch.randn(self.rows, *spec.shape, generator=self.generator) * 3 + 5) * self.config.scale

    def _tree(self, specs: tuple[TensorSpec, ...]) -> Tree:
        parts = tuple(self._part(spec) for spec in specs)
        return parts[0] if len(parts) == 1 else parts

    def _draw(self) -> Obs:
        group = self.spec.groups[0]
        actor = self._tree(group.actor)
        critic = self._tree(group.critic) if self.config.asymmetric else actor
        mask = torch.zeros(self.rows, group.mask, dtype=torch.bool)
        if group.mask:
            draws = torch.rand(mask.shape, generator=self.generator).split(list(group.action.sizes), 1)
            mask = torch.cat([(part > 0.5) | (part == part.amax(1, keepdim=True)) for part in draws], 1)
        return Obs(actor, critic, mask)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.generator.manual_seed(seed)
        self.resets += 1
        self.obs = self._draw()
        return (self.obs,)

    def _chance(self, probability: float, rows: int) -> Tensor:
        return torch.rand(rows, generator=self.generator) < probability

    def _ends(self, probability: float) -> Tensor:
        agents = self.config.agents
        return self._chance(probability, self.rows // agents).repeat_interleave(agents)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        self.actions = actions[0].clone()
        first = self.obs.actor[0] if isinstance(self.obs.actor, tuple) else self.obs.actor
        reward = torch.tanh(self.actions.float().mean(-1) * (first[:, 0] - 5)) + 1
        terminated, truncated = self._ends(self.config.terminates), self._ends(self.config.truncates)
        final, fresh, ended = self._draw(), self._draw(), terminated | truncated
        self.obs = pick(ended, fresh, final)
        active = ~self._chance(self.config.absent, self.rows)
        return (Step(self.obs, final, reward, terminated, truncated, active, {"luck": reward * 2}),)

    def state(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "obs": tuple(self.obs)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        actor, critic, mask = state["obs"]
        self.obs = Obs(actor, critic if self.config.asymmetric else actor, mask)

    def frame(self, row: int) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None: ...


@dataclass(frozen=True)
class Toys:
    """Several groups of rows in one environment, each a toy."""

    groups: tuple[Toy, ...]

    def make(self, rows: int, threads: int = 1, render: bool = False) -> ToysVec:
        return ToysVec(self, rows)


class ToysVec:
    def __init__(self, config: Toys, environments: int) -> None:
        self.toys = [toy.make(environments) for toy in config.groups]
        groups = (replace(toy.spec.groups[0], name=f"group{number}") for number, toy in enumerate(self.toys))
        self.spec = Spec(tuple(groups), "toys", "none")

    def reset(self, seed: int) -> tuple[Obs, ...]:
        return tuple(toy.reset(seed + number)[0] for number, toy in enumerate(self.toys))

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        return tuple(toy.step((own,))[0] for toy, own in zip(self.toys, actions, strict=True))

    def state(self) -> dict[str, Any]:
        return {"toys": [toy.state() for toy in self.toys]}

    def load_state(self, state: dict[str, Any]) -> None:
        for toy, own in zip(self.toys, state["toys"], strict=True):
            toy.load_state(own)

    def frame(self, row: int) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None: ...


def backwards(observation: Tree) -> Tree:
    """Two views of `[B, D]` vectors: as they are, and from their last column to their first."""
    return tree_map(lambda part: torch.stack((part, part.flip(-1))), observation)


def pick(rows: Tensor, where: Obs, other: Obs) -> Obs:
    """`where` for `rows` `[N]` bool, else `other`."""

    def choose(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (x.dim() - 1)), x, y)

    actor = tree_map(choose, where.actor, other.actor)
    critic = actor if where.critic is where.actor else tree_map(choose, where.critic, other.critic)
    return Obs(actor, critic, choose(where.mask, other.mask))


@torch.no_grad()
def recorded(net: Net, spec: GroupSpec, steps: int, rows: slice, total: int, seed: int, absent: float = 0.1) -> Rollout:
    """Rows `rows` of a random rollout of `total` rows that does not depend on the policy, but for its log-probs."""
    generator = Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def chance(probability: float) -> Tensor:
        return torch.rand(steps, total, generator=generator) < probability

    obs, final = normal(steps + 1, total, 5) * 3 + 50, normal(steps, total, 5) * 3 + 50
    actions, rewards = normal(steps, total, spec.action.columns), normal(steps, total) * 2 + 1
    terminated, truncated, active = chance(0.1), chance(0.1), ~chance(absent)
    obs, final, actions, rewards = obs[:, rows], final[:, rows], actions[:, rows], rewards[:, rows]
    terminated, truncated, active = terminated[:, rows], truncated[:, rows], active[:, rows]
    first = torch.cat((torch.zeros_like(active[:1]), terminated | truncated | ~active))
    no_mask = torch.zeros(steps + 1, obs.shape[1], 0, dtype=torch.bool)
    state = torch.zeros(steps, obs.shape[1], net.actor_core.state_size)
    normalized = net.actor_norm(obs[:-1])
    parameters = net.policy(normalized, no_mask[:-1], state[0], first[:-1])
    return Rollout(
        obs=Obs(obs, obs, no_mask),
        final=Obs(final, final, no_mask[1:]),
        final_index=None,
        actions=actions,
        log_probs=net.distribution.log_prob(parameters, actions),
        parameters=parameters,
        rewards=rewards,
        raw_rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        active=active,
        first=first,
        age=torch.zeros_like(first[:-1], dtype=torch.int64),
        actor_states=state,
        restarted=False,
        logs=torch.zeros(steps, 0, rows.stop - rows.start),
        continues=None,
    )


def box_spec(rows: int) -> GroupSpec:
    return GroupSpec(rows, (VECTOR,), (VECTOR,), BOX)


def with_garbage(rollout: Rollout, scale: float) -> Rollout:
    """The same rollout with other numbers wherever a row was absent."""
    absent = ~rollout.active
    obs, final = rollout.obs.actor, rollout.final.actor
    assert isinstance(obs, Tensor) and isinstance(final, Tensor)
    obs = torch.cat((obs[:-1].masked_fill(absent.unsqueeze(-1), scale), obs[-1:]))
    final = final.masked_fill(absent.unsqueeze(-1), -scale)
    return replace(
        rollout,
        obs=Obs(obs, obs, rollout.obs.mask),
        final=Obs(final, final, rollout.final.mask),
        actions=rollout.actions.masked_fill(absent.unsqueeze(-1), scale / 50),
        rewards=rollout.rewards.masked_fill(absent, scale),
        raw_rewards=rollout.raw_rewards.masked_fill(absent, scale),
        terminated=rollout.terminated | absent,
    )
