"""Environments of several agents whose every number is known: no package is needed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from ppo_and_friends.types import Step
from ppo_and_friends.vector.base import VecEnv
from ppo_and_friends.vector.multi_agent import MultiAgentEnv

FOREVER = 10**6


class Crew:
    """A ParallelEnv. Agents observe [their number, the clock]; they earn 10 times their number plus the clock.

    Args:
        presence: {agent: (clock at which it comes, clock at which it dies)}.
        length: the clock at which all that are left are truncated.
        expire: agents that are truncated where others die.
        masks: where flags of legal actions come from: "", "info" or "dict". Action 0 is illegal at odd clocks.
        sizes: {agent: actions}, 3 unless it is named; {agent: numbers observed beyond two} likewise in `wide`.
        flags: how many flags a mask has; none of them is True from the clock `stuck` on.
    """

    metadata: dict[str, Any] = {"render_fps": 7}  # noqa: RUF012

    def __init__(
        self,
        presence: dict[str, tuple[int, int]] | None = None,
        length: int = 6,
        expire: tuple[str, ...] = (),
        masks: str = "",
        sizes: dict[str, int] | None = None,
        wide: dict[str, int] | None = None,
        flags: int = 3,
        stuck: int = FOREVER,
        poison: int = FOREVER,
        render_mode: str | None = None,
    ) -> None:
        self.presence = presence or {"ann": (0, FOREVER), "bob": (0, FOREVER)}
        self.possible_agents = list(self.presence)
        self.expire = expire
        self.length, self.masks, self.flags, self.stuck, self.poison = length, masks, flags, stuck, poison
        self.sizes, self.wide = sizes or {}, wide or {}
        self.agents: list[str] = []
        self.clock = 0
        self.seeds: list[int | None] = []
        self.taken: list[dict[str, int]] = []

    def observation_space(self, agent: str) -> spaces.Space:
        inner = spaces.Box(-np.inf, np.inf, (2 + self.wide.get(agent, 0),), np.float32)
        if self.masks != "dict":
            return inner
        return spaces.Dict({"observation": inner, "action_mask": spaces.Box(0, 1, (self.flags,), np.int8)})

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(self.sizes.get(agent, 3))

    def _legal(self) -> np.ndarray:
        legal = np.ones(self.flags, np.int8)
        legal[0] = self.clock % 2 == 0
        return legal * 0 if self.clock >= self.stuck else legal

    def _observe(self, agent: str) -> Any:
        seen = np.zeros(2 + self.wide.get(agent, 0), np.float32)
        seen[:2] = self.possible_agents.index(agent), np.nan if self.clock >= self.poison else self.clock
        return {"observation": seen, "action_mask": self._legal()} if self.masks == "dict" else seen

    def _infos(self, agents: list[str]) -> dict[str, dict[str, Any]]:
        told = {"action_mask": self._legal()} if self.masks == "info" else {}
        return {agent: {**told, "luck": 0.5} for agent in agents}

    def _there(self) -> list[str]:
        return [agent for agent, (comes, dies) in self.presence.items() if comes <= self.clock < dies]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seeds.append(seed)
        self.clock = 0
        self.agents = self._there()
        return {agent: self._observe(agent) for agent in self.agents}, self._infos(self.agents)

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        assert list(actions) == self.agents, "those that are there act, and no others"
        self.taken.append(dict(actions))
        acted = self.agents
        self.clock += 1
        over = self.clock >= self.length
        gone = {agent: self.presence[agent][1] <= self.clock for agent in acted}
        dead = {agent: gone[agent] and agent not in self.expire for agent in acted}
        late = {agent: (over or gone[agent]) and not dead[agent] for agent in acted}
        self.agents = [] if over else self._there()
        shown = list(dict.fromkeys((*acted, *self.agents)))
        rewards = {agent: 10.0 * self.possible_agents.index(agent) + self.clock for agent in acted}
        return {agent: self._observe(agent) for agent in shown}, rewards, dead, late, self._infos(shown)

    def render(self) -> np.ndarray:
        return np.full((3, 3, 3), self.clock, np.uint8)

    def close(self) -> None: ...


class FilmedCrew(Crew):
    """Each of a Crew also sees a picture, whose pixels are 10 times its number and the clock; without `columns` no more."""

    columns = True

    def observation_space(self, agent: str) -> spaces.Space:
        picture = spaces.Box(0, 255, (1, 5, 5), np.uint8)
        return spaces.Dict({"numbers": super().observation_space(agent), "eye": picture}) if self.columns else picture

    def _observe(self, agent: str) -> Any:
        numbers = super()._observe(agent)
        picture = np.full((1, 5, 5), 10 * numbers[0] + numbers[1], np.uint8)
        return {"numbers": numbers, "eye": picture} if self.columns else picture


class Blind(FilmedCrew):
    columns = False


class StatefulCrew(Crew):
    """Its state is [clock, number of agents that are there]."""

    state_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def state(self) -> np.ndarray:
        return np.array([self.clock, len(self.agents)], np.float32)


class Pair(gymnasium.Env):
    """A Gymnasium environment with tuples for two agents, as rware and lbforaging have."""

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Tuple([spaces.Box(-9, 9, (1,), np.float32)] * 2)
        self.action_space = spaces.Tuple([spaces.Discrete(3)] * 2)
        self.clock = 0

    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([self.clock], np.float32), np.array([-self.clock], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.clock = 0
        return self._seen(), {}

    def step(self, action):
        self.clock += 1
        return self._seen(), [float(action[0]), 10.0 * action[1]], self.clock == 4, False, {"food": self.clock}


def crew(presence: dict[str, tuple[int, int]] | None = None, *, critic: Any = "own", **settings: Any) -> MultiAgentEnv:
    """A config of it; settings that are the adapter's own go there."""
    own = {
        key: settings.pop(key) for key in ("agent_ids", "groups", "separate", "max_episode_steps") if key in settings
    }
    kwargs = {"presence": presence, **settings}
    return MultiAgentEnv("Crew", kwargs, critic, factory=StatefulCrew if critic == "state" else Crew, **own)


DEATHS = {"ann": (0, FOREVER), "bob": (0, 2), "late": (3, 5)}


def take(env: VecEnv, *actions: int) -> Step:
    """One step in which all rows of the only group do these."""
    rows = env.spec.groups[0].rows
    given = torch.tensor(actions * rows)[:rows, None] if actions else torch.ones(rows, 1, dtype=torch.int64)
    (step,) = env.step((given,))
    return step
