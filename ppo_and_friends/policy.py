"""How a trained (or random) policy acts outside training: nothing is learned and no statistic moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.networks.net import Net
from ppo_and_friends.types import ActionSpace, GroupSpec, Obs, leaves, tree_map
from ppo_and_friends.vector.base import VecEnv


class NetPolicy:
    """Acts with a `Net`; its state is the core's beside the exploration noise."""

    def __init__(self, net: Net, generator: Generator, deterministic: bool = True) -> None:
        self.net, self.generator, self.deterministic = net, generator, deterministic
        self.steps = 0

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        """The state before the first step of `rows` rows."""
        self.steps = 0
        core = self.net.actor_core.start(rows).to(self.generator.device)
        return core, self.net.distribution.start(rows)

    @torch.no_grad()
    def act(self, obs: Obs, state: tuple[Tensor, Tensor], first: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Actions in the environment's units `[N, columns]`, and the state after."""
        core, noise = state
        draw = None
        if not self.deterministic:
            self.net.distribution.refresh(noise, self.steps, self.generator)
            draw = self.net.distribution.draws(1, len(first), self.generator)[0]
        self.steps += 1
        action = self.net.act(obs, core, first, noise, draw)
        return action.environment_actions, (action.state, noise)


class RandomPolicy:
    """Uniform over legal actions; standard normal where a column of a box has not two finite bounds."""

    def __init__(self, space: ActionSpace, generator: Generator) -> None:
        self.space, self.generator = space, generator

    def start(self, rows: int) -> None:
        return None

    def act(self, obs: Obs, state: None, first: Tensor) -> tuple[Tensor, None]:
        space, rows = self.space, len(first)
        if space.kind == "box":
            low, high = torch.tensor(space.low), torch.tensor(space.high)
            uniform = low + (high - low) * torch.rand(rows, space.columns, generator=self.generator)
            normal = torch.randn(rows, space.columns, generator=self.generator)
            return torch.where((high - low).isfinite(), uniform, normal).clamp(low, high), None
        weights = torch.rand(rows, sum(space.sizes), generator=self.generator)
        if obs.mask.shape[-1]:
            weights = weights.masked_fill(~obs.mask, -1)
        return torch.stack([part.argmax(-1) for part in weights.split(list(space.sizes), -1)], -1), None


class Memory:
    """What a policy keeps from one call of `PPO.predict` to the next: make a new one for each episode, or each batch of
    episodes that begin together."""

    def __init__(self) -> None:
        self.state: Any = None
        self.steps = 0

    def act(self, policy: NetPolicy, obs: Obs) -> Tensor:
        """The policy's actions `[N, columns]` for the next step."""
        rows, device = len(leaves(obs.actor)[0]), policy.generator.device
        first = torch.full((rows,), self.state is None, device=device)
        if self.state is None:
            self.state = policy.start(rows)
        elif len(self.state[0]) != rows:
            raise UserError(
                f"There are {rows} observations, but the memory is of {len(self.state[0])}: make a new Memory "
                "for other episodes."
            )
        policy.steps = self.steps
        actions, self.state = policy.act(obs, self.state, first)
        self.steps = policy.steps
        return actions


def predict(
    env: VecEnv,
    policies: Sequence[NetPolicy],
    observation: Any,
    agent: str = "",
    memory: Memory | None = None,
    mask: Any = None,
) -> Any:
    """See `PPO.predict`."""
    from ppo_and_friends.vector.gym_masks import flat_flags

    every = [name for group in env.spec.groups for name in group.agents]
    if agent and agent not in every:
        raise UserError(f"{env.spec.task} has no agent '{agent}', only {', '.join(every)}.")
    number = next((index for index, group in enumerate(env.spec.groups) if agent in group.agents), 0)
    spec, policy = env.spec.groups[number], policies[number]
    seat = getattr(env, "seat", None)  # of environments whose agents see and do different things
    interface: Any = env if seat is None else seat(agent or spec.agents[0])
    encode = getattr(interface, "encode", None)
    if encode is not None:
        tree, batched = encode(observation)
    else:
        tree = torch.as_tensor(np.asarray(observation), dtype=spec.actor[0].dtype)
        batched = tree.dim() > len(spec.actor[0].shape)
        tree = tree if batched else tree.unsqueeze(0)
    parts = leaves(tree)
    for part, wanted in zip(parts, spec.actor, strict=True):
        if tuple(part.shape[1:]) != wanted.shape:
            raise UserError(
                f"The observation has shape {tuple(part.shape[1:])}, but the policy was trained on {wanted.shape}."
            )
    if memory is None and policy.net.actor_core.state_size:
        raise UserError(
            "This policy remembers, but predict was given no memory: make one for each episode, memory = Memory() of "
            "ppo_and_friends.policy, and call predict(observation, memory=memory)."
        )
    if mask is None:
        found = interface.legal(observation) if hasattr(interface, "legal") else None  # flags inside an observation
    else:
        told = flat_flags(mask) if isinstance(mask, tuple) else mask  # one array for each action column
        found = interface.flags(told) if hasattr(interface, "flags") else told  # a game may tell fewer than rows have
    flags = _flags(found, len(parts[0]), spec)
    device = policy.generator.device
    obs = Obs(tree_map(lambda part: part.to(device), tree), tree, flags.to(device))
    actions = (memory or Memory()).act(policy, obs)
    actions = actions.cpu().numpy()
    decode = getattr(interface, "decode", None)
    done = decode(actions) if decode is not None else list(actions)
    return np.asarray(done) if batched else done[0]


def _flags(mask: Any, rows: int, spec: GroupSpec) -> Tensor:
    """`[rows, K]` bool of a user's flags, `[K]` or `[rows, K]`; all legal where there are none."""
    wanted = spec.mask
    if mask is None:
        return torch.ones(rows, wanted, dtype=torch.bool)
    if not wanted:
        raise UserError("predict was given a mask, but the environment has no flags of legal actions: leave it out.")
    flags = np.asarray(mask) != 0
    if flags.shape not in ((wanted,), (rows, wanted)):
        raise UserError(
            f"The mask has shape {flags.shape}, but must be {(wanted,)} or {(rows, wanted)}: a flag for each choice of "
            "each observation."
        )
    legal = torch.from_numpy(flags).expand(rows, wanted)
    possible = torch.stack([part.any(-1) for part in legal.split(list(spec.action.sizes), -1)]).all(0)
    if not possible.all():
        raise UserError(f"The mask leaves observation {int(possible.int().argmin())} no legal action: give it one.")
    return legal
