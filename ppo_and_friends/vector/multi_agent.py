"""Environments of several agents: PettingZoo's, and Gymnasium's with a tuple for each agent (rware, lbforaging)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import GroupSpec, Obs, Spec, Step, Tree, Views
from ppo_and_friends.vector.gym_masks import MASK, flat_flags
from ppo_and_friends.vector.gym_views import METHOD, views_by

CriticView = Literal["own", "joined", "state", "agent_state"]


@dataclass(frozen=True)
class MultiAgentEnv:
    """Any PettingZoo environment, parallel or of turns (whoever is not to move waits), and tuples of agents.

    Agents are rows of a group, and share its policy (arXiv:2103.01955, arXiv:2006.07869).

    id                 a module with parallel_env or env ("mpe2.simple_spread_v3"), "MODULE:FUNCTION", or an id of
                       Gymnasium's registry ("lbforaging:Foraging-8x8-3p-2f-v3"); with `factory`, a name for messages
    kwargs             given to the environment's constructor
    critic             what it sees. own: the agent's own observation (independent PPO). joined: the observations of all
                       agents of its group. state: the environment's state(). agent_state: joined, the agent's own, and
                       which agent it is
    agent_ids          policies see which agent of its group they play, one-hot
    groups             {agent, or a pattern such as "adversary_*": name of its group}; the first that fits. Empty for
                       one group of all
    separate           agents with other spaces than the first of their group get groups of their own
    max_episode_steps  a time limit, at which agents are truncated
    factory            called with `kwargs` (and render_mode="rgb_array" where frames are wanted) in place of `id`
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    critic: CriticView = "joined"
    agent_ids: bool = False
    groups: dict[str, str] = field(default_factory=dict)
    separate: bool = False
    max_episode_steps: int | None = None
    factory: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.critic not in get_args(CriticView):
            raise UserError(f"env.critic is {self.critic!r}; give one of {', '.join(get_args(CriticView))}.")
        if not isinstance(self.groups, dict):
            raise UserError(f"env.groups is {self.groups!r}; give names of agents and of their groups, as a dict.")

    def make(self, rows: int, threads: int = 1, render: bool = False) -> MultiAgentVec:
        """Build `rows` environments, each with all its agents.

        Raises:
            UserError: an unknown id, a missing package, settings or spaces that cannot be used.
            EnvironmentFailure: the first reset raises.
        """
        from ppo_and_friends.vector.agents_make import make_agents
        from ppo_and_friends.vector.agents_rows import AgentRows
        from ppo_and_friends.vector.agents_spaces import Settings, read_groups
        from ppo_and_friends.vector.gym_make import check_id

        check_id(self.id, "MultiAgentEnv")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise UserError(f"env.max_episode_steps is {self.max_episode_steps}; give 1 or more.")
        build = partial(make_agents, self.id, self.kwargs, self.factory, render)
        envs = [build() for _ in range(rows)]
        groups = read_groups(self.id, envs[0], Settings(self.critic, self.agent_ids, self.groups, self.separate))
        return MultiAgentVec(AgentRows(self.id, groups, envs, build, self.max_episode_steps or 0))


class MultiAgentVec:
    """A `VecEnv` over `AgentRows`; tensors share the memory of its arrays."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        groups = []
        for side in backend.sides:
            interface = side.interface
            actor = tuple(part.spec() for part in interface.parts)
            critic = tuple(part.spec() for part in interface.critic_parts) or actor
            groups.append(
                GroupSpec(
                    len(side.reward),
                    actor,
                    critic,
                    interface.members[0].actions.spec(),
                    interface.mask,
                    name=interface.name,
                    symmetric=not interface.critic_parts,
                    agents=tuple(str(member.agent) for member in interface.members),
                    views=_views(backend.envs[0], backend.name, interface),
                )
            )
        pace = float(getattr(backend.envs[0], "metadata", {}).get("render_fps") or Spec.steps_per_second)
        self.spec = Spec(tuple(groups), backend.name, "agents in process", steps_per_second=pace)
        self._logs: list[dict[str, Tensor]] = [{} for _ in groups]
        made = [_steps(side, log) for side, log in zip(backend.sides, self._logs, strict=True)]
        self._plain, self._cut = tuple(plain for plain, _ in made), tuple(cut for _, cut in made)
        self._wanted = [(group.rows, group.action.columns) for group in groups]

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self._backend.reset(seed)
        return tuple(step.obs for step in self._plain)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        shapes = [tuple(action.shape) for action in actions]
        if shapes != self._wanted:
            raise ValueError(f"{self.spec.task} needs actions {self._wanted}, not {shapes}")
        cut = self._backend.step([action.numpy() for action in actions])
        for side, log in zip(self._backend.sides, self._logs, strict=True):
            if len(log) != len(side.log):
                log.update({key: torch.from_numpy(column) for key, column in side.log.items()})
        return self._cut if cut else self._plain

    def seat(self, agent: str) -> Seat:
        """How one agent's observations and actions are read."""
        _, side, slot = next(seat for name, seat in self._backend.seats.items() if str(name) == agent)
        asked = getattr(self._backend.envs[0], "asked", lambda agent, seen: seen)
        return Seat(side.interface, slot, partial(asked, side.interface.members[slot].agent))

    def state(self) -> dict[str, Any] | None:
        return self._backend.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._backend.load_state(state)

    def frame(self, row: int) -> np.ndarray:
        """Of environment `row`, with all its agents."""
        return self._backend.frame(row)

    def close(self) -> None:
        self._backend.close()


class Seat:
    """One agent's observations and actions, as the environment gives and takes them."""

    def __init__(self, interface: Any, slot: int, read: Callable[[Any], Any]) -> None:
        """`read` makes what the rows are given of what the environment gives."""
        self.interface, self.slot, self.member, self.read = interface, slot, interface.members[slot], read

    def encode(self, observation: Any) -> tuple[Tree, bool]:
        """An observation, or a list of them, as tensors `[B, ...]`; and whether it was a list."""
        values, batched = self._values(observation)
        arrays = [np.zeros((len(values), *part.shape), part.dtype) for part in self.interface.parts]
        own = arrays
        if self.interface.ids:
            columns = self.interface.vector
            arrays[0][:, columns + self.slot] = 1
            own = [arrays[0][:, :columns], *arrays[1:]] if columns else arrays[1:]
        write = self.member.layout.writer(own)
        try:
            for row, value in enumerate(values):
                write(row, self.member.split(self.read(value))[0])
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise UserError(f"This is no observation of {self.member.agent}: {error}.") from error
        first, *others = (torch.from_numpy(array) for array in arrays)
        return ((first, *others) if others else first), batched

    def legal(self, observation: Any) -> Tensor | None:
        """`[B, K]` flags of legal actions, where the observation has them."""
        if not self.member.masked:
            return None
        values = map(self.read, self._values(observation)[0])
        return torch.stack([torch.from_numpy(flat_flags(self.member.split(value)[1]) != 0) for value in values])

    def flags(self, mask: Any) -> Any:
        """Flags of legal actions `[K]` or `[B, K]`, told beside observations, as the rows are given them."""
        given = np.asarray(mask)
        read = np.stack([self.read({MASK: row})[MASK] for row in np.atleast_2d(given)])
        if read.shape[-1] != self.interface.mask:  # those of the rows already, or too few
            return given
        return read if given.ndim > 1 else read[0]

    def _values(self, observation: Any) -> tuple[list[Any], bool]:
        """One or several observations as a list, and whether they were several."""
        space = self.member.layout.space
        batched = isinstance(observation, list) or (
            space.shape is not None and not isinstance(observation, dict) and np.ndim(observation) > len(space.shape)
        )
        return list(observation) if batched else [observation], batched

    def decode(self, actions: np.ndarray) -> list[Any]:
        """Each row of `[B, columns]` as the environment takes it."""
        return self.member.actions.decode(actions)


def _views(env: Any, name: str, interface: Any) -> Views | None:
    """By the environment's method for the observation of any of its agents."""
    method = getattr(env, METHOD, None)
    identities = len(interface.members) if interface.ids else 0
    return None if method is None else views_by(method, name, interface.members[0].layout, identities)


def _steps(side: Any, log: dict[str, Tensor]) -> tuple[Step, Step]:
    """A step in which nothing was cut, and one in which something was."""
    tensors = {key: torch.from_numpy(array) for key, array in side.buffers.items()}

    def tree(kind: str, count: int) -> Tree:
        found = tuple(tensors[f"{kind}{index}"] for index in range(count))
        return found if count > 1 else found[0]

    def observation(kind: str, mask: str) -> Obs:
        actor = tree(kind, len(side.interface.parts))
        count = len(side.interface.critic_parts)
        return Obs(actor, tree(f"{kind}_critic", count) if count else actor, tensors[mask])

    obs, final = observation("obs", "mask"), observation("final", "final_mask")
    facts = tensors["reward"], tensors["terminated"], tensors["truncated"], tensors["active"]
    return Step(obs, obs, *facts, log), Step(obs, final, *facts, log)
