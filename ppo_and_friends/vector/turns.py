"""Games whose agents take turns (PettingZoo's AEC environments), as a ParallelEnv in which a step is one move.

Whoever is not to move has one legal action, which the game does not know: to wait. An only choice has probability 1, so
that nothing is learned from it; and a row that waits, unlike one that is not active, is no cut: what an agent earns
while others move reaches the move of its own that led to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.gym_masks import MASK, flat_flags


class TurnAgents:
    """An AEC environment as a ParallelEnv. Waiting is the last action of each agent.

    Raises:
        UserError: actions that are not Discrete, so that there is no room for one more.
    """

    def __init__(self, name: str, env: Any) -> None:
        self.env, self.metadata = env, env.metadata
        self.possible_agents: list[Any] = list(getattr(env, "possible_agents", ()))
        self.agents: list[Any] = []
        for agent in self.possible_agents:
            if not isinstance(env.action_space(agent), spaces.Discrete):
                raise UserError(
                    f"The agents of {name} take turns, and the actions of {agent} are {env.action_space(agent)}: only "
                    "Discrete ones have room for one more, to wait."
                )
        if hasattr(env, "state_space"):
            self.state_space = env.state_space

    def action_space(self, agent: Any) -> spaces.Discrete:
        own = self.env.action_space(agent)
        return spaces.Discrete(int(own.n) + 1, start=int(own.start))

    def observation_space(self, agent: Any) -> spaces.Dict:
        flags = spaces.Box(0, 1, (int(self.action_space(agent).n),), np.int8)
        return spaces.Dict({**_entries(self.env.observation_space(agent)), MASK: flags})

    def reset(self, seed: int | None = None) -> tuple[dict[Any, Any], dict[Any, Any]]:
        self.env.reset(seed=seed)
        self.agents = list(self.env.agents)
        return self._observe(self.agents), dict(self.env.infos)

    def step(self, actions: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
        """Move for the agent whose turn it is; rewards are what this move earned each."""
        env = self.env
        env.step(actions[env.agent_selection])
        told = tuple(dict(each) for each in (env.rewards, env.terminations, env.truncations, env.infos))
        observations = self._observe([agent for agent in self.agents if self._is_over(agent)])
        while env.agents and self._is_over(env.agent_selection):
            env.step(None)  # how it is told that an agent has seen its end
        self.agents = [agent for agent in env.agents if not self._is_over(agent)]
        return observations | self._observe(self.agents), *told

    def asked(self, agent: Any, seen: Any) -> dict[str, Any]:
        """What an agent sees that is to move, with flags for all its actions: those of the game, and not to wait."""
        own = self.env.action_space(agent).n
        entries = _entries(seen)
        return {**entries, MASK: np.append(flat_flags(entries.get(MASK, np.ones(own, np.int8))), 0)}

    def _is_over(self, agent: Any) -> bool:
        return self.env.terminations[agent] or self.env.truncations[agent]

    def _observe(self, agents: list[Any]) -> dict[Any, Any]:
        return {agent: self._seen(agent) for agent in agents}

    def _seen(self, agent: Any) -> dict[str, Any]:
        told, seen = self.env.infos[agent].get(MASK), self.env.observe(agent)
        if agent != self.env.agent_selection or self._is_over(agent):
            return {**_entries(seen), MASK: np.arange(self.action_space(agent).n) == self.env.action_space(agent).n}
        return self.asked(agent, seen if told is None else {MASK: told, **_entries(seen)})

    def state(self) -> np.ndarray:
        return self.env.state()

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()


def _entries(seen: Any) -> dict[str, Any]:
    """Of an observation with flags, or of its space; another is one entry."""
    entries = seen.spaces if isinstance(seen, spaces.Dict) else seen
    return entries if isinstance(entries, dict) and MASK in entries else {"observation": seen}
