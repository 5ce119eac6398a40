"""The storage of one group's rollout, allocated once: facts are written row by row, with one call each."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from torch import Generator, Tensor

from ppo_and_friends.errors import EnvironmentFailure
from ppo_and_friends.networks.net import Action, Net
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import CONTINUES, GroupSpec, Obs, Step, TensorSpec, Tree, leaves


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
        self.parameters = empty(0)  # their width is known after the first action
        self.rewards = empty(steps)
        self.terminated, self.truncated, self.active = (empty(steps, (), torch.bool) for _ in range(3))
        self.first = empty(steps + 1, (), torch.bool)
        # Each step of the storage as a view of its own, made once: indexing costs more than writing.
        self._obs = [self.obs.map(itemgetter(row)) for row in range(steps + 1)]
        self._final = [] if self.sparse else [self.final.map(itemgetter(row)) for row in range(steps)]
        self._actions, self._rewards, self._first = self.actions.unbind(), self.rewards.unbind(), self.first.unbind()
        self._parameters = self.parameters.unbind()
        self._flags = [(self.terminated[row], self.truncated[row], self.active[row]) for row in range(steps)]
        self._draws: tuple[Tensor, ...] = ()
        self.decide: Callable[..., Action] = net.act
        self.logs = empty(0).new_zeros(steps, len(spec.logs), count)
        self._logs = self.logs.unbind()
        self.continues: Tensor | None = None  # once an environment says it; NaN where it did not
        self.core_state = net.actor_core.start(count).to(device)
        self.actor_states = empty(-(-steps // length), self.core_state.shape[1:])
        self.noise = net.distribution.start(count)
        self.now_age = torch.zeros(count, dtype=torch.int64, device=device)
        self.count = 0  # steps ever, which times the exploration noise
        self.restarted = True
        self.last = steps  # the row of `obs` where the last rollout ended

    def begin(self, obs: Obs) -> None:
        """Start every row anew from an observation just reset."""
        self._write(self._obs[0], obs)
        self.first[0] = self.restarted = True
        self.now_age.zero_()

    def roll(self) -> None:
        """The last row becomes the first: a rollout starts where the one before ended."""
        self._write(self._obs[0], self._obs[self.last])
        self.first[0] = self.first[self.last].clone()
        self.restarted = False

    def draw(self, steps: int) -> None:
        """All chance of the next `steps` actions, in one call."""
        self._draws = self.net.distribution.draws(steps, self.spec.rows, self.generator).unbind()

    def act(self, step: int) -> Tensor:
        """Decide, and keep what was decided."""
        if step % self.length == 0 and self.core_state.shape[1]:
            self.actor_states[step // self.length] = self.core_state
        self.net.distribution.refresh(self.noise, self.count, self.generator)
        self.count += 1
        action = self.decide(self._obs[step], self.core_state, self._first[step], self.noise, self._draws[step])
        if not self._parameters:
            self.parameters = action.parameters.new_zeros(self.steps, *action.parameters.shape)
            self._parameters = self.parameters.unbind()
        self._actions[step].copy_(action.actions)
        self._parameters[step].copy_(action.parameters)
        if self.core_state.shape[1]:
            self.core_state.copy_(action.state)
        return action.environment_actions

    def write(self, step: int, result: Step) -> None:
        """Keep what the environment answered."""
        self._write(self._obs[step + 1], result.obs)
        self._rewards[step].copy_(result.reward)
        terminated, truncated, active = self._flags[step]
        terminated.copy_(result.terminated)
        truncated.copy_(result.truncated)
        active.copy_(result.active)
        torch.logical_or(terminated, truncated, out=self._first[step + 1]).logical_or_(~active)
        if self.sparse:
            self._write_cuts(step, result)
        else:
            self._write(self._final[step], result.final)
        if self.spec.logs:
            torch.stack([result.log[name] for name in self.spec.logs], out=self._logs[step])
        if CONTINUES in result.log:
            if self.continues is None:
                self.continues = torch.full_like(self.rewards, torch.nan)
            self.continues[step] = result.log[CONTINUES]

    def _write_cuts(self, step: int, result: Step) -> None:
        rows = (result.terminated | result.truncated).nonzero().squeeze(1)
        if len(rows):
            index = step * self.spec.rows + rows
            self.final_parts.append((index, result.final.map(itemgetter(rows))))

    def _write(self, kept: Obs, obs: Obs) -> None:
        _copy(kept.actor, obs.actor)
        if not self.spec.symmetric:
            _copy(kept.critic, obs.critic)
        if self.spec.mask:
            kept.mask.copy_(obs.mask)

    def _ages(self, steps: int) -> Tensor:
        """Steps since each row's last cut, `[steps, N]`; and counts on for the next rollout."""
        times = torch.arange(steps, device=self.now_age.device).unsqueeze(1)
        starts = torch.where(self.first[:steps], times, -self.now_age)
        starts[0] = -self.now_age  # which is 0 where the rollout begins with an episode
        ages = times - starts.cummax(0).values
        self.now_age.copy_(torch.where(self.first[steps], 0, ages[-1] + 1))
        return ages

    def rollout(self, steps: int) -> Rollout:
        """The facts of the steps just taken; views of the storage, valid until the next rollout."""
        self.last = steps
        final, index = self.final.map(itemgetter(slice(steps))), None
        if self.sparse:
            empty = self.final_parts or [(self.now_age.new_zeros(0), self.final)]
            index = torch.cat([rows for rows, _ in empty])
            final = _join([obs.map(lambda p: p.flatten(0, 1) if not len(p) else p) for _, obs in empty])
            self.final_parts = []
        continues = None
        if self.continues is not None:
            continues = self.continues[:steps].clone()
            self.continues.fill_(torch.nan)
        return Rollout(
            obs=self.obs.map(itemgetter(slice(steps + 1))),
            final=final,
            final_index=index,
            actions=self.actions[:steps],
            log_probs=self.net.distribution.log_prob(self.parameters[:steps], self.actions[:steps]),
            parameters=self.parameters[:steps],
            rewards=self.rewards[:steps],
            raw_rewards=self.rewards[:steps],
            terminated=self.terminated[:steps],
            truncated=self.truncated[:steps],
            active=self.active[:steps],
            first=self.first[: steps + 1],
            age=self._ages(steps),
            actor_states=self.actor_states[: -(-steps // self.length)],
            restarted=self.restarted,
            logs=self.logs[:steps],
            continues=continues,
        )

    def check(self, rollout: Rollout) -> None:
        """Raise EnvironmentFailure where a number is not finite. Waits for the device."""
        parts: list[tuple[str, int, TensorSpec | None, Tensor]] = []
        for seen, before in ((rollout.obs, 1),) if self.sparse else ((rollout.obs, 1), (rollout.final, 0)):
            trees = [(self.spec.actor, seen.actor), (self.spec.critic, seen.critic)]
            for specs, tree in trees[:1] if self.spec.symmetric else trees:
                named = zip(specs, leaves(tree), strict=True)
                parts += [("an observation", before, spec, part) for spec, part in named]
        parts.append(("a reward", 0, None, rollout.rewards))  # last: what was seen may be why
        for what, before, spec, tensor in parts:
            if tensor.dtype.is_floating_point and not tensor.sum().isfinite():
                bad = (~tensor.isfinite()).nonzero()
                if len(bad):
                    step, row, *column = bad[0].tolist()
                    key = f" ('{spec.key_of(column[0])}')" if spec is not None and len(column) == 1 else ""
                    step -= before  # an observation follows a step, the first one none of this rollout
                    where = f"in step {step} of the rollout, {int(rollout.age[step, row])} steps into its episode"
                    raise EnvironmentFailure(
                        f"row {row} returned {what}{key} that is not finite {where if step >= 0 else 'to begin with'}: "
                        "mend the environment or its action bounds."
                    )

    def state(self) -> dict[str, Any]:
        """What resuming needs beside the environment."""
        last = self._obs[self.last]
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
        for kept, part in zip(leaves(self._obs[last].actor), state["actor"], strict=True):
            kept.copy_(part)
        if not self.spec.symmetric:
            for kept, part in zip(leaves(self._obs[last].critic), state["critic"], strict=True):
                kept.copy_(part)
        self._obs[last].mask.copy_(state["mask"])
        self.first[last] = state["first"]
        self.now_age.copy_(state["age"])
        self.core_state.copy_(state["core"])
        self.noise.copy_(state["noise"])
        self.count = state["count"]


def _copy(kept: Tree, tree: Tree) -> None:
    if isinstance(kept, Tensor):
        kept.copy_(tree)  # type: ignore[arg-type]
        return
    for mine, part in zip(kept, tree, strict=True):
        mine.copy_(part)


def _join(parts: list[Obs]) -> Obs:
    first, *rest = parts
    return first.map(lambda *x: torch.cat(x), *rest)
