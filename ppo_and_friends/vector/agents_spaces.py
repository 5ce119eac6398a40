"""What the agents of one environment see and do, and which of them are one group.

NumPy alone is imported here, as in spaces.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector.gym_masks import MASK, flat_flags, without_mask
from ppo_and_friends.vector.spaces import Actions, Layout, Part


@dataclass(frozen=True)
class Settings:
    """How rows are made of agents: see `MultiAgentEnv`."""

    critic: str
    agent_ids: bool
    groups: Mapping[str, str]
    separate: bool


class Member:
    """What one agent sees and does, without the flags of its legal actions."""

    def __init__(self, name: str, agent: str, env: Any, info: Mapping[str, Any], told: bool) -> None:
        """`told`: whether the info of any agent has flags."""
        self.agent, space, found = agent, env.observation_space(agent), None
        self.masked = isinstance(space, spaces.Dict) and MASK in space.spaces
        if isinstance(space, spaces.Dict) and self.masked:
            found = spaces.flatdim(space[MASK])
            rest = without_mask(space.spaces)
            space = spaces.Dict(rest) if isinstance(rest, dict) else rest
        elif info.get(MASK) is not None:
            found = flat_flags(info[MASK]).size
        self.layout, self.actions = Layout(space, name), Actions(env.action_space(agent), name)
        choices = sum(self.actions.sizes)
        self.mask = choices if self.masked or told else 0
        if found is not None and found != choices:
            raise UserError(
                f"{name} gives {agent} an {MASK} of {found} flags, but its actions {self.actions.space} have {choices} "
                "choices: give one flag for each."
            )

    @property
    def spaces(self) -> tuple[Any, ...]:
        """What agents of one group have in common."""
        return *((part.shape, part.dtype) for part in self.layout.parts), self.actions.space, self.mask

    def split(self, observation: Any) -> tuple[Any, Any]:
        """An observation without its flags, and these."""
        return (without_mask(observation), observation[MASK]) if self.masked else (observation, None)


@dataclass(frozen=True)
class GroupInterface:
    """One group: all its agents see and do things of one kind."""

    name: str
    members: tuple[Member, ...]
    ids: bool
    critic: str
    state: Layout | None

    @property
    def mask(self) -> int:
        return self.members[0].mask

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of an observation: the identity's columns follow the vector's."""
        parts, count = self.members[0].layout.parts, len(self.members)
        if not self.ids:
            return parts
        if self.vector:
            first = parts[0]
            fields = (*first.fields, ("agent_id", self.vector, self.vector + count)) if first.fields else ()
            return Part((self.vector + count,), first.dtype, first.name, fields), *parts[1:]
        return Part((count,), np.dtype(np.float32), "agent_id"), *parts

    @property
    def vector(self) -> int:
        """Columns of an observation's vector part."""
        first = self.members[0].layout.parts[0]
        return first.shape[0] if len(first.shape) == 1 else 0

    @property
    def critic_parts(self) -> tuple[Part, ...]:
        """Empty where the critic sees what the actor does."""
        count, own_too = len(self.members), self.critic == "agent_state"
        if self.critic == "own":
            return ()
        if self.critic == "state":
            assert self.state is not None
            return self.state.parts
        width = count * self.vector + (self.vector + count if own_too else 0)
        images = [part for part in self.members[0].layout.parts if len(part.shape) == 3]
        whose = [str(member.agent) for member in self.members] + ["itself"] * own_too
        joined = [replace(part, name=f"{part.name} of {who}") for who in whose for part in images]
        return *((Part((width,), np.dtype(np.float32), self.critic),) if width else ()), *joined


def read_groups(name: str, env: Any, settings: Settings) -> tuple[GroupInterface, ...]:
    """Read the spaces of all agents, and reset once to see whether legal actions are reported.

    Raises:
        UserError: spaces that do not fit one policy, a mask of the wrong length, nothing for the critic to see.
        EnvironmentFailure: the reset raises.
    """
    try:
        _, infos = env.reset(seed=0)
    except Exception as error:
        raise EnvironmentFailure(f"{name} failed in its first reset: {type(error).__name__}: {error}.") from error
    told = any(MASK in info for info in infos.values())
    members = [Member(name, agent, env, infos.get(agent, {}), told) for agent in env.possible_agents]
    groups: dict[Any, list[Member]] = {}
    for member in members:
        groups.setdefault((_group_of(name, member.agent, settings.groups), *_if(settings.separate, member)), []).append(
            member
        )
    state = _state_layout(name, env) if settings.critic == "state" else None
    named = _names(list(groups))
    return tuple(
        _checked(name, GroupInterface(named[key], tuple(own), settings.agent_ids, settings.critic, state))
        for key, own in groups.items()
    )


def _if(separate: bool, member: Member) -> tuple[str, ...]:
    return (str(member.spaces),) if separate else ()


def _names(keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A group that was separated by spaces gets a number."""
    names = [key[0] for key in keys]
    return {
        key: key[0] if names.count(key[0]) == 1 else f"{key[0]}_{names[:i].count(key[0])}" for i, key in enumerate(keys)
    }


def _group_of(name: str, agent: str, groups: Mapping[str, str]) -> str:
    found = [group for pattern, group in groups.items() if fnmatchcase(str(agent), pattern)]
    if groups and not found:
        raise UserError(f"env.groups of {name} names no group for its agent {agent}: add it, or a pattern such as '*'.")
    return found[0] if found else "agents"


def _checked(name: str, group: GroupInterface) -> GroupInterface:
    first = group.members[0]
    for other in group.members[1:]:
        if other.spaces != first.spaces:
            raise UserError(
                f"Agents {first.agent} and {other.agent} of {name} have mixed spaces and one shared policy: give them "
                "groups of their own with env.groups, or all that differ with env.separate."
            )
    return group


def _state_layout(name: str, env: Any) -> Layout:
    space = getattr(env, "state_space", None)
    try:
        value = env.state()
    except Exception as error:
        raise UserError(
            f"env.critic is state, but {name} has none ({type(error).__name__}): use joined or own."
        ) from error
    if space is None:
        shape = np.shape(value)
        space = spaces.Box(-np.inf, np.inf, shape, np.asarray(value).dtype if len(shape) == 3 else np.float32)  # type: ignore[arg-type]
    return Layout(space, name)
