"""One side of a game between two learns, and the other one is played by what it was before.

`SelfPlay` only says who is who: the opponent is a group that does not learn. The add-on `Snapshots` gives it weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import Obs, Spec, Step
from ppo_and_friends.vector.base import EnvConfig, VecEnv

LEARNER, OPPONENT = "learner", "opponent"


@dataclass(frozen=True)
class SelfPlay:
    """A game of two agents that see and do the same kind of things, as a learner and a frozen opponent.

    env   makes environments with one group of two agents, each of which sees the game from its own side

    The learner is the first agent in every other environment and the second one in those between, and changes seats
    with every episode, so that it plays both alike.
    """

    env: EnvConfig

    def make(self, rows: int, threads: int = 1, render: bool = False) -> SelfPlayVec:
        """Build `rows` games.

        Raises:
            UserError: not one group of two agents.
        """
        return SelfPlayVec(self.env.make(rows, threads, render))


class SelfPlayVec:
    """A `VecEnv` of two groups, "learner" and "opponent", with one row a game each."""

    def __init__(self, inner: VecEnv) -> None:
        self.inner = inner
        both, *others = inner.spec.groups
        if others or len(both.agents) != 2:
            groups = "; ".join(", ".join(group.agents) for group in inner.spec.groups)
            raise UserError(
                f"SelfPlay needs a game of two agents in one group, but {inner.spec.task} has ({groups}): take "
                "another, or leave groups and separate of its settings as they are."
            )
        games = both.environments
        learner = replace(both, rows=games, name=LEARNER, agents=(LEARNER,))
        opponent = replace(learner, name=OPPONENT, agents=(OPPONENT,), learns=False)
        self.spec: Spec = replace(inner.spec, groups=(learner, opponent), recordable=False)
        self._agents = both.agents
        self._pairs = 2 * torch.arange(games, device=inner.spec.device)
        self.seats = self._alternate()  # which of its game's agents the learner is, [games]

    def _alternate(self) -> Tensor:
        return self._pairs // 2 % 2

    def _rows(self) -> tuple[Tensor, Tensor]:
        """The learner's rows of the game's own, and the opponent's."""
        return self._pairs + self.seats, self._pairs + 1 - self.seats

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.seats = self._alternate()
        (obs,) = self.inner.reset(seed)
        return tuple(obs.map(itemgetter(rows)) for rows in self._rows())

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        sat = self._rows()
        joined = torch.cat(actions)
        for rows, action in zip(sat, actions, strict=True):
            joined[rows] = action
        (step,) = self.inner.step((joined,))
        over = (step.terminated | step.truncated).view(-1, 2).all(1)
        self.seats = torch.where(over, 1 - self.seats, self.seats)
        return tuple(_part(step, before, now) for before, now in zip(sat, self._rows(), strict=True))

    def seat(self, agent: str) -> Any:
        """How observations and actions of either are read; what the game offers itself, where it has no seats."""
        seat = getattr(self.inner, "seat", None)
        return self.inner if seat is None else seat(self._agents[0])

    def state(self) -> dict[str, Any] | None:
        state = self.inner.state()
        return None if state is None else {"env": state, "seats": self.seats.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.inner.load_state(state["env"])
        self.seats.copy_(state["seats"])

    def frame(self, row: int) -> np.ndarray:
        return self.inner.frame(row)

    def close(self) -> None:
        self.inner.close()


def _part(step: Step, before: Tensor, now: Tensor) -> Step:
    """What one side has of a step that it took in the rows `before`; it goes on in the rows `now`."""
    facts = step.reward[before], step.terminated[before], step.truncated[before], step.active[before]
    log = {name: values[before] for name, values in step.log.items()}
    return Step(step.obs.map(itemgetter(now)), step.final.map(itemgetter(before)), *facts, log)
