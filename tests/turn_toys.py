"""A game of turns whose every number is known: no package is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

CHOICES = 3


class Table:
    """An AEC environment. A move is 0, 1 or 2, and its mover earns that when the next one moves, if both are there.

    Args:
        moves: {player: moves after which it is out}, in their order.
        masks: where flags of legal moves come from: "", "info" or "dict". Move 0 is illegal at odd clocks.
        lazy: who is out is told so when its turn would come, not at once.
        actions: of each player; Discrete(3) unless given.
    """

    metadata: dict[str, Any] = {"render_fps": 3}  # noqa: RUF012

    def __init__(
        self, moves: dict[str, int], masks: str = "dict", lazy: bool = False, actions: spaces.Space | None = None
    ) -> None:
        self.moves, self.masks, self.lazy = moves, masks, lazy
        self.actions = actions or spaces.Discrete(CHOICES)
        self.possible_agents = list(moves)
        self.taken: list[tuple[str, int]] = []

    def agent_iter(self) -> None:
        raise NotImplementedError

    def observation_space(self, agent: str) -> spaces.Space:
        inner = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        if self.masks != "dict":
            return inner
        return spaces.Dict({"observation": inner, "action_mask": spaces.Box(0, 1, (CHOICES,), np.int8)})

    def action_space(self, agent: str) -> spaces.Space:
        return self.actions

    def _legal(self, agent: str) -> np.ndarray:
        return np.array([self.clock % 2 == 0, True, True], np.int8) * (agent == self.agent_selection)

    def observe(self, agent: str) -> Any:
        seen = np.array([self.possible_agents.index(agent), self.clock], np.float32)
        return {"observation": seen, "action_mask": self._legal(agent)} if self.masks == "dict" else seen

    @property
    def infos(self) -> dict[str, dict[str, Any]]:
        told = self.masks == "info"
        return {agent: {"action_mask": self._legal(agent)} if told else {} for agent in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents, self.left, self.clock = self.possible_agents[:], dict(self.moves), 0
        self.rewards, self.terminations = dict.fromkeys(self.agents, 0.0), dict.fromkeys(self.agents, False)
        self.truncations = dict(self.terminations)
        self.agent_selection, self.last = self.agents[0], ("nobody", 0)

    def _next(self) -> str:
        start = self.possible_agents.index(self.agent_selection) + 1
        others = self.possible_agents[start:] + self.possible_agents[: start - 1]
        there = [agent for agent in others if agent in self.agents and (self.lazy or not self.terminations[agent])]
        return (*there, self.agent_selection)[0]

    def step(self, action: int | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent]:
            assert action is None
            self.agent_selection = self._next()
            self.agents.remove(agent)
            for told in (self.terminations, self.truncations, self.rewards):
                del told[agent]
            self.rewards = dict.fromkeys(self.agents, 0.0)
            return
        assert action in range(CHOICES) and (not self.masks or self._legal(agent)[action]), f"{agent} did {action}"
        self.taken.append((agent, int(action)))
        before, earned = self.last
        self.rewards = {each: float(earned) * (each == before) for each in self.agents}
        self.last = agent, int(action)
        self.clock += 1
        self.left[agent] -= 1
        self.terminations[agent] = not self.left[agent]
        if self.lazy or not self.terminations[agent]:
            self.agent_selection = self._next()

    def render(self) -> np.ndarray:
        return np.full((2, 2, 3), self.clock, np.uint8)

    def close(self) -> None: ...
