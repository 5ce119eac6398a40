"""T steps of actor and environment into rows that were allocated once."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor

from ppo_and_friends.errors import EnvironmentFailure
from ppo_and_friends.networks.net import Action, Net
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec, Obs, Step, TensorSpec, Tree, leaves, tree_map
from ppo_and_friends.vector.base import VecEnv


class Rows:
    """The storage and the present state of one group of rows."""

    def __init__(self, spec: GroupSpec, net: Net, steps: int, length: int, generator: Generator) -> None:
        self.spec, self.net, self.steps, self.length, self.generator = spec, net, steps, length, generator
        device = generator.device
        count = spec.rows

        def empty(rows: int, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(rows, count, *shape, dtype=dtype, device=device)

        def tree(rows: int, specs: tuple[TensorSpec, ...]) -> Tree:
            parts = tuple(empty(rows, part.shape, part.dtype) for part in specs)
            return parts[0] if len(parts) == 1 else parts

        def observations(rows: int) -> Obs:
            actor = tree(rows, spec.actor)
            critic = actor if spec.symmetric else tree(rows, spec.critic)
            return Obs(actor, critic, empty(rows, (spec.mask,), torch.bool))

        self.obs = observations(steps + 1)
        self.sparse = any(part.dtype == torch.uint8 for part in spec.actor + spec.critic)
        self.final = observations(0 if self.sparse else steps)
        self.final_parts: list[tuple[Tensor, Obs]] = []
        self.actions = empty(steps, (spec.action.columns,), spec.action.dtype)
        self.rewards = empty(steps)
        self.flags = empty(steps, (3,), torch.bool)  # terminated, truncated, active
        self.first = empty(steps + 1, (), torch.bool)
        self.age = empty(steps, (), torch.int64)
        self.parameters = empty(0)  # their width is known after the first action
        self.draws = empty(0)
        self.decide: Callable[..., Action] = net.act
        self.log: dict[str, Tensor] = {}
        self.core_state = net.actor_core.start(count).to(device)
        self.actor_states = empty(-(-steps // length), self.core_state.shape[1:])
        self.noise = net.distribution.start(count)
        self.now_age = torch.zeros(count, dtype=torch.int64, device=device)
        self.count = 0  # steps ever, which times the exploration noise
        self.restarted = True
        self.last = steps  # the row of `obs` where the last rollout ended

    def begin(self, obs: Obs) -> None:
        """Start every row anew from an observation just reset."""
        self._write(self.obs, 0, obs)
        self.first[0] = self.restarted = True
        self.now_age.zero_()
        self.core_state.zero_()

    def roll(self) -> None:
        """The last row becomes the first: a rollout starts where the one before ended."""
        self._write(self.obs, 0, _at(self.obs, self.last))
        self.first[0] = self.first[self.last].clone()
        self.restarted = False

    def draw(self, steps: int) -> None:
        """All chance of the next `steps` actions, in one call."""
        self.draws = self.net.distribution.draws(steps, self.spec.rows, self.generator)

    def act(self, step: int) -> Tensor:
        """Decide, and keep what was decided."""
        if step % self.length == 0:
            self.actor_states[step // self.length] = self.core_state
        self.net.distribution.refresh(self.noise, self.count, self.generator)
        self.count += 1
        action = self.decide(_at(self.obs, step), self.core_state, self.first[step], self.noise, self.draws[step])
        if not len(self.parameters):
            self.parameters = action.parameters.new_zeros(self.steps, *action.parameters.shape)
        self.actions[step] = action.actions
        self.parameters[step] = action.parameters
        self.core_state = action.state
        return action.environment_actions

    def write(self, step: int, result: Step) -> None:
        """Keep what the environment answered."""
        self._write(self.obs, step + 1, result.obs)
        self.rewards[step] = result.reward
        flags = torch.stack((result.terminated, result.truncated, result.active), -1)
        self.flags[step] = flags
        ended = result.terminated | result.truncated
        self.first[step + 1] = ended | ~result.active
        self.age[step] = self.now_age
        self.now_age += 1
        self.now_age.masked_fill_(self.first[step + 1], 0)
        if self.sparse:
            self._write_cuts(step, result, ended)
        else:
            self._write(self.final, step, result.final)
        for name, values in result.log.items():
            if name not in self.log:
                self.log[name] = torch.full_like(self.rewards, torch.nan)
            self.log[name][step] = values

    def _write_cuts(self, step: int, result: Step, ended: Tensor) -> None:
        rows = ended.nonzero().squeeze(1)
        if len(rows):
            index = step * self.spec.rows + rows
            self.final_parts.append((index, _map(lambda part: part[rows], result.final)))

    def _write(self, storage: Obs, row: int, obs: Obs) -> None:
        for kept, part in zip(leaves(storage.actor), leaves(obs.actor), strict=True):
            kept[row] = part
        if not self.spec.symmetric:
            for kept, part in zip(leaves(storage.critic), leaves(obs.critic), strict=True):
                kept[row] = part
        if self.spec.mask:
            storage.mask[row] = obs.mask

    def rollout(self, steps: int) -> Rollout:
        """The facts of the steps just taken; views of the storage, valid until the next rollout.

        Raises:
            EnvironmentFailure: a number is not finite.
        """
        self.last = steps
        final, index = _map(lambda part: part[:steps], self.final), None
        if self.sparse:
            empty = self.final_parts or [(self.age.new_zeros(0), self.final)]
            index = torch.cat([rows for rows, _ in empty])
            final = _join([_map(lambda p: p.flatten(0, 1) if not len(p) else p, obs) for _, obs in empty])
            self.final_parts = []
        log = {name: values[:steps].clone() for name, values in self.log.items()}
        for values in self.log.values():
            values.fill_(torch.nan)
        terminated, truncated, active = self.flags[:steps].unbind(-1)
        rollout = Rollout(
            obs=_map(lambda part: part[: steps + 1], self.obs),
            final=final,
            final_index=index,
            actions=self.actions[:steps],
            log_probs=self.net.distribution.log_prob(self.parameters[:steps], self.actions[:steps]),
            parameters=self.parameters[:steps],
            rewards=self.rewards[:steps],
            raw_rewards=self.rewards[:steps],
            terminated=terminated,
            truncated=truncated,
            active=active,
            first=self.first[: steps + 1],
            age=self.age[:steps],
            actor_states=self.actor_states[: -(-steps // self.length)],
            restarted=self.restarted,
            log=log,
        )
        self._check(rollout)
        return rollout

    def _check(self, rollout: Rollout) -> None:
        parts: list[tuple[str, TensorSpec | None, Tensor]] = [("reward", None, rollout.rewards)]
        after = _map(lambda part: part[1:], rollout.obs)
        for seen in (after,) if self.sparse else (after, rollout.final):
            trees = [(self.spec.actor, seen.actor), (self.spec.critic, seen.critic)]
            for specs, tree in trees[:1] if self.spec.symmetric else trees:
                parts += [("observation", spec, part) for spec, part in zip(specs, leaves(tree), strict=True)]
        for what, spec, tensor in parts:
            if tensor.dtype.is_floating_point and not tensor.sum().isfinite():
                bad = (~tensor.isfinite()).nonzero()
                if len(bad):
                    step, row, *column = bad[0].tolist()
                    key = f" ('{spec.key_of(column[0])}')" if spec is not None and len(column) == 1 else ""
                    raise EnvironmentFailure(
                        f"row {row} returned a {what}{key} that is not finite in step {step} of the rollout, "
                        f"{int(self.age[step, row])} steps into its episode: mend the environment or its action bounds."
                    )

    def state(self) -> dict[str, Any]:
        """What resuming needs beside the environment."""
        last = _at(self.obs, self.last)
        return {
            "actor": [part.clone() for part in leaves(last.actor)],
            "critic": [part.clone() for part in leaves(last.critic)],
            "mask": last.mask.clone(),
            "first": self.first[self.last].clone(),
            "age": self.now_age.clone(),
            "core": self.core_state.clone(),
            "noise": self.noise.clone(),
            "count": self.count,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        last = self.last = self.steps
        for kept, part in zip(leaves(self.obs.actor), state["actor"], strict=True):
            kept[last] = part
        if not self.spec.symmetric:
            for kept, part in zip(leaves(self.obs.critic), state["critic"], strict=True):
                kept[last] = part
        self.obs.mask[last] = state["mask"]
        self.first[last] = state["first"]
        self.now_age.copy_(state["age"])
        self.core_state.copy_(state["core"])
        self.noise.copy_(state["noise"])
        self.count = state["count"]


class Collector:
    """Steps one `VecEnv` with the actors of its groups."""

    def __init__(self, env: VecEnv, groups: list[Rows], steps: int, soft_resets: bool, seed: int) -> None:
        self.env, self.groups, self.steps, self.soft_resets, self.seed = env, groups, steps, soft_resets, seed
        self.started = False
        self.resets = 0
        self.seconds: dict[str, float] = {}  # of the last rollout, by what they went to

    def _start(self) -> None:
        if self.started and self.soft_resets:
            for rows in self.groups:
                rows.roll()
            return
        for rows, obs in zip(self.groups, self.env.reset(self.seed + self.resets), strict=True):
            rows.begin(obs)
        self.started = True
        self.resets += 1

    @torch.no_grad()
    def collect(self, steps: int = 0) -> list[Rollout]:
        """One rollout for each group. With `steps`, a shorter one, for seeding moments: nothing to learn from."""
        self._start()
        steps = steps or self.steps
        for rows in self.groups:
            rows.draw(steps)
        spent = [0.0, 0.0, 0.0]
        for step in range(steps):
            start = perf_counter()
            actions = tuple(rows.act(step) for rows in self.groups)
            acted = perf_counter()
            results = self.env.step(actions)
            stepped = perf_counter()
            for rows, result in zip(self.groups, results, strict=True):
                rows.write(step, result)
            spent[0] += acted - start
            spent[1] += stepped - acted
            spent[2] += perf_counter() - stepped
        self.seconds = dict(zip(("seconds_acting", "seconds_environment", "seconds_storing"), spent, strict=True))
        return [rows.rollout(steps) for rows in self.groups]

    def state(self) -> dict[str, Any]:
        return {
            "env": self.env.state(),
            "groups": [rows.state() for rows in self.groups],
            "seed": self.seed,
            "resets": self.resets,
            "started": self.started,
        }

    def load_state(self, state: dict[str, Any]) -> bool:
        """Go on where `state` was taken; False when the environment cannot, and rows start anew."""
        self.seed, self.resets = state["seed"], state["resets"]
        if not state["started"]:  # saved before the first step: the rows will start as they would have
            return True
        if state["env"] is None:
            return False
        self.env.load_state(state["env"])
        for rows, saved in zip(self.groups, state["groups"], strict=True):
            rows.load_state(saved)
        self.started = True
        return True


def _at(obs: Obs, row: int) -> Obs:
    """One time step of stored observations."""
    actor = tree_map(lambda part: part[row], obs.actor)
    return Obs(actor, actor if obs.critic is obs.actor else tree_map(lambda part: part[row], obs.critic), obs.mask[row])


def _map(function, obs: Obs) -> Obs:
    actor = tree_map(function, obs.actor)
    return Obs(actor, actor if obs.critic is obs.actor else tree_map(function, obs.critic), function(obs.mask))


def _join(parts: list[Obs]) -> Obs:
    first, *rest = parts
    actor = tree_map(lambda *x: torch.cat(x), first.actor, *(obs.actor for obs in rest))
    if first.critic is first.actor:
        return Obs(actor, actor, torch.cat([obs.mask for obs in parts]))
    critic = tree_map(lambda *x: torch.cat(x), first.critic, *(obs.critic for obs in rest))
    return Obs(actor, critic, torch.cat([obs.mask for obs in parts]))
