"""T steps of actor and environment."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch

from ppo_and_friends.rollout import Rollout
from ppo_and_friends.rows import Rows
from ppo_and_friends.vector.base import Scheduled, VecEnv


class Collector:
    """Steps one `VecEnv` with the actors of its groups."""

    def __init__(self, env: VecEnv, groups: list[Rows], steps: int, soft_resets: bool, seed: int) -> None:
        self.env, self.groups, self.steps, self.soft_resets, self.seed = env, groups, steps, soft_resets, seed
        self.started = False
        self.resets = 0
        self.taken = 0  # steps of each row since the beginning of the run, counted by whoever collects
        self.seconds: dict[str, float] = {}  # of the last rollout, by what they went to; a recorded one tells nothing

    def _start(self) -> None:
        if self.started and self.soft_resets:
            for rows in self.groups:
                rows.roll()
            return
        if isinstance(self.env, Scheduled):
            self.env.elapse(self.taken)
        for rows, obs in zip(self.groups, self.env.reset(self.seed + self.resets), strict=True):
            rows.begin(obs)
        self.started = True
        self.resets += 1

    @torch.no_grad()
    def collect(self, steps: int = 0) -> list[Rollout]:
        """One rollout for each group. With `steps`, a shorter one, for seeding moments: nothing to learn from.

        Raises:
            EnvironmentFailure: a number is not finite.
        """
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
        rollouts = [rows.rollout(steps) for rows in self.groups]
        if not self.env.spec.recordable:
            for rows, rollout in zip(self.groups, rollouts, strict=True):
                rows.check(rollout)
        return rollouts

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
