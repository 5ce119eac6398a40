"""The loop over environments of several agents: steps one after the other, into arrays that are allocated once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector import object_state
from ppo_and_friends.vector.agents_arrays import Side
from ppo_and_friends.vector.agents_spaces import GroupInterface
from ppo_and_friends.vector.gym_make import picture
from ppo_and_friends.vector.gym_masks import without_choice
from ppo_and_friends.vector.gym_rows import not_finite, row_seed
from ppo_and_friends.vector.gym_state import CannotSave


class AgentRows:
    """Environments of several agents, stepped in this process.

    Args:
        name: of the environment, for messages.
        groups: its agents.
        envs: each with the methods of a ParallelEnv.
        build: makes another one.
        limit: steps after which an environment is truncated; 0 for no other end than its own.
    """

    def __init__(
        self, name: str, groups: tuple[GroupInterface, ...], envs: list[Any], build: Callable[[], Any], limit: int = 0
    ) -> None:
        self.name, self.envs, self.build, self.limit = name, envs, build, limit
        self._spare: Any = None
        layout = groups[0].state
        states = [np.zeros((len(envs), *part.shape), part.dtype) for part in layout.parts] if layout else []
        self._write_state = layout.writer(states) if layout else None
        self.sides = [Side(group, len(envs), states) for group in groups]
        self.seats = {
            member.agent: (number, side, slot)
            for number, side in enumerate(self.sides)
            for slot, member in enumerate(side.interface.members)
        }
        # {agent: (group, its arrays, which of its agents, row, how it is written where there are no flags)}
        self._places = [
            {
                agent: (group, side, slot, number * side.size + slot, None if side.interface.mask else side.write[slot])
                for agent, (group, side, slot) in self.seats.items()
            }
            for number in range(len(envs))
        ]
        self.clock = 0
        self.started = [0] * len(envs)  # the clock at each environment's last reset
        self.live: list[list[str]] = [[] for _ in envs]
        self._over: list[int] = []  # environments that ended in this step
        self._gone: list[tuple[Side, int]] = []  # rows of agents that are no longer there
        self._cut = False

    def reset(self, seed: int) -> None:
        """Start every environment anew, environment e seeded from (seed, e)."""
        self.clock = 0
        for side in self.sides:
            side.clear()
        for number in range(len(self.envs)):
            self._restart(number, row_seed(seed, number))
        self._check()
        self._check_masks()
        self._look("obs", range(len(self.envs)))

    def step(self, actions: list[np.ndarray]) -> bool:
        """Take `[rows, columns]` actions of each group; True where a row was cut (only then is `final` written)."""
        self.clock += 1
        self._over.clear()
        self._gone.clear()
        self._cut = False
        for side in self.sides:
            side.clear()
        decoded = [
            side.interface.members[0].actions.decode(part) for side, part in zip(self.sides, actions, strict=True)
        ]
        for number in range(len(self.envs)):
            self._step(number, decoded)
        self._check()
        everyone = range(len(self.envs))
        if not (self._cut or self._over or self._gone):
            self._look("obs", everyone)
            self._check_masks()
            return False
        for side in self.sides:
            side.keep()
        self._look("final", everyone)
        for side, row in self._gone:
            side.vanish(row)
        for number in self._over:
            self._end(number)
            self._restart(number)
        self._check()
        self._check_masks()
        self._look("obs", self._over)
        for side, row in self._gone:
            if row // side.size not in self._over:
                side.go_on(row // side.size)
        return True

    def _step(self, number: int, decoded: list[list[Any]]) -> None:
        env, live, places = self.envs[number], self.live[number], self._places[number]
        given = {agent: decoded[places[agent][0]][places[agent][3]] for agent in live}
        agent = "any agent"
        try:
            observations, rewards, terminated, truncated, infos = env.step(given)
            for agent in live:
                _, side, slot, row, write = places[agent]
                side.reward[row] = rewards[agent]
                if write is not None:
                    write(row, observations[agent])
                elif agent in observations:
                    side.observe(slot, row, observations[agent], infos.get(agent, {}))
            if infos or True in terminated.values() or True in truncated.values():
                self._note(number, terminated, truncated, infos)
            if env.agents != live:
                self._change(number, observations, infos)
        except Exception as error:
            raise self._failure(number, str(agent), f"{type(error).__name__}: {error}") from error
        if self.limit and self.clock - self.started[number] >= self.limit and number not in self._over:
            self._over.append(number)

    def _note(self, number: int, terminated: Mapping[str, Any], truncated: Mapping[str, Any], infos: Any) -> None:
        """Ends and named numbers."""
        for agent in self.live[number]:
            _, side, _, row, _ = self._places[number][agent]
            if terminated.get(agent, False):
                side.terminated[row] = self._cut = True
            elif truncated.get(agent, False):
                side.truncated[row] = self._cut = True
            side.note(row, infos.get(agent, {}))

    def _change(self, number: int, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Agents left or came."""
        before, self.live[number] = self.live[number], list(self.envs[number].agents)
        if not self.live[number]:
            self._over.append(number)
            return
        for agent in set(before).symmetric_difference(self.live[number]):
            _, side, slot = self.seats[agent]
            row = number * side.size + slot
            if agent in before:
                self._gone.append((side, row))
            else:
                side.observe(slot, row, observations[agent], infos.get(agent, {}))

    def _end(self, number: int) -> None:
        """All rows of an environment end with it, those of agents that died before too."""
        for side in self.sides:
            rows = slice(number * side.size, (number + 1) * side.size)
            side.truncated[rows] |= ~side.terminated[rows]

    def _restart(self, number: int, seed: int | None = None) -> None:
        env, self.started[number] = self.envs[number], self.clock
        agent = "any agent"
        try:
            observations, infos = env.reset() if seed is None else env.reset(seed=seed)
            self.live[number] = list(env.agents)
            for agent, (_, side, slot) in self.seats.items():
                row = number * side.size + slot
                if agent in observations and agent in self.live[number]:
                    side.observe(slot, row, observations[agent], infos.get(agent, {}))
                else:
                    side.vanish(row)
        except Exception as error:
            raise self._failure(number, agent, f"{type(error).__name__}: {error}") from error

    def _look(self, kind: str, changed: Iterable[int]) -> None:
        """Let critics see; the states of the environments in `changed` are read anew."""
        if self._write_state is not None:
            for number in changed:
                try:
                    self._write_state(number, self.envs[number].state())
                except Exception as error:
                    raise self._failure(number, "any agent", f"state: {type(error).__name__}: {error}") from error
        for side in self.sides:
            side.look(kind)

    # ---- failures

    def _check(self) -> None:
        for side in self.sides:
            self._refuse(side, not_finite(side.floats, side.parts, side.seen, side.reward))

    def _check_masks(self) -> None:
        for side in self.sides:
            if side.interface.mask:
                self._refuse(side, without_choice(side.mask, side.flags_from))

    def _refuse(self, side: Side, fault: tuple[int, str] | None) -> None:
        if fault:
            row, what = fault
            raise self._failure(row // side.size, side.interface.members[row % side.size].agent, what, row)

    def _failure(self, number: int, agent: str, what: str, row: int = -1) -> EnvironmentFailure:
        at = f"row {row}" if row >= 0 else f"environment {number}"
        step = self.clock - self.started[number]
        return EnvironmentFailure(f"{self.name}, {agent}, {at}, step {step} of its episode: {what}.")

    # ---- the rest

    def state(self) -> dict[str, Any] | None:
        """Everything the next steps depend on; None where one environment holds something that cannot be saved."""
        try:
            envs = [object_state.save(env) for env in self.envs]
            self._spare = self._spare or self.build()
            object_state.load(self._spare, envs[0])  # another would not know either what this one cannot
        except CannotSave:
            return None
        return {"clock": self.clock, "started": list(self.started), "envs": envs}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, with as many environments.

        Raises:
            UserError: the state is of other environments.
        """
        if len(state["envs"]) != len(self.envs):
            raise UserError(
                f"The saved state has {len(state['envs'])} environments of {self.name}, not {len(self.envs)}."
            )
        self.clock, self.started = state["clock"], list(state["started"])
        for number, (env, saved) in enumerate(zip(self.envs, state["envs"], strict=True)):
            try:
                object_state.load(env, saved)
            except CannotSave as error:
                raise UserError(f"The saved state is not of {self.name} as it is made now ({error}).") from error
            self.live[number] = list(env.agents)
            for agent, (_, side, _, row, _) in self._places[number].items():
                side.vanish(row)
                side.there[row] = agent in self.live[number]

    def frame(self, number: int) -> np.ndarray:
        """`[height, width, 3]` uint8 of one environment."""
        return picture(self.name, self.envs[number])

    def close(self) -> None:
        for env in self.envs:
            env.close()
