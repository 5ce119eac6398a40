"""The arrays that one group of agents fills.

K agents have K rows an environment: row e * K + k is agent k of environment e. An agent that is not there (dead, or yet
to come) has a row of zeros that is not active.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ppo_and_friends.vector.agents_spaces import GroupInterface
from ppo_and_friends.vector.gym_masks import MASK, write_flags
from ppo_and_friends.vector.gym_rows import log_default


class Side:
    """The arrays of one group, and how they are written."""

    def __init__(self, interface: GroupInterface, environments: int, states: list[np.ndarray]) -> None:
        """`states` `[environments, ...]` are those of env.critic state."""
        self.interface, self.size = interface, len(interface.members)
        rows, self.parts = environments * self.size, interface.parts
        self.buffers: dict[str, np.ndarray] = {}
        for kind in ("obs", "final"):
            for index, part in enumerate(self.parts):
                self.buffers[f"{kind}{index}"] = np.zeros((rows, *part.shape), part.dtype)
            for index, part in enumerate(interface.critic_parts):
                self.buffers[f"{kind}_critic{index}"] = np.zeros((rows, *part.shape), part.dtype)
        self.reward = self.buffers["reward"] = np.zeros(rows, np.float32)
        for flag in ("terminated", "truncated", "active"):
            self.buffers[flag] = np.zeros(rows, np.bool_)
        self.terminated, self.truncated = self.buffers["terminated"], self.buffers["truncated"]
        self.active, self.there = self.buffers["active"], np.zeros(rows, np.bool_)  # in this step, and after it
        self.mask = self.buffers["mask"] = np.ones((rows, interface.mask), np.bool_)
        self.buffers["final_mask"] = np.ones((rows, interface.mask), np.bool_)
        self.log: dict[str, np.ndarray] = {}
        self.seen = [self.buffers[f"obs{index}"] for index in range(len(self.parts))]
        vector, columns = interface.vector, interface.ids
        own = [self.seen[0][:, :vector], *self.seen[1:]] if vector else self.seen[1 if columns else 0 :]
        self.own = own  # without the identity
        self.write = [member.layout.writer(own) for member in interface.members]
        if columns:
            self.seen[0][:, vector:] = np.tile(np.eye(self.size, dtype=np.float32), (environments, 1))
        self.floats = [array.reshape(-1) for array in (*self.seen, self.reward) if array.dtype != np.uint8]
        sizes = np.asarray(interface.members[0].actions.sizes or (0,))
        self.flags_from = np.cumsum(sizes) - sizes  # where each action column's flags begin
        self._views: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for kind in ("obs", "final"):
            seen = [self.buffers[f"{kind}{index}"] for index in range(len(self.parts))]
            critic = [self.buffers[f"{kind}_critic{index}"] for index in range(len(interface.critic_parts))]
            self._views[kind] = _critic_views(interface, environments, seen, critic, states)

    def clear(self) -> None:
        """Before a step: nothing has happened yet."""
        self.terminated.fill(False)
        self.truncated.fill(False)
        np.copyto(self.active, self.there)
        self.reward.fill(0.0)
        for key, column in self.log.items():
            column.fill(log_default(key))

    def observe(self, slot: int, row: int, observation: Any, info: Mapping[str, Any]) -> None:
        """Write what one agent that is there sees and may do."""
        self.there[row] = True
        if not self.interface.mask:
            self.write[slot](row, observation)
            return
        observation, flags = self.interface.members[slot].split(observation)
        self.write[slot](row, observation)
        write_flags(self.mask, row, info.get(MASK) if flags is None else flags)

    def note(self, row: int, info: Mapping[str, Any]) -> None:
        """Named numbers of one row."""
        for key, value in info.items():
            if isinstance(value, float | int | np.number | np.bool_):
                if key not in self.log:
                    self.log[str(key)] = np.full(len(self.reward), log_default(key), np.float32)
                self.log[str(key)][row] = float(value)

    def vanish(self, row: int) -> None:
        """An agent is not there: it sees nothing, and may do anything."""
        self.there[row] = False
        for array in self.own:
            array[row] = 0
        self.mask[row] = True

    def keep(self) -> None:
        """What the rows see now is what their actions led to."""
        for index, array in enumerate(self.seen):
            np.copyto(self.buffers[f"final{index}"], array)
        np.copyto(self.buffers["final_mask"], self.mask)

    def look(self, kind: str) -> None:
        """Let the critic see, after all agents do."""
        for mine, seen in self._views[kind]:
            np.copyto(mine, seen)

    def go_on(self, environment: int) -> None:
        """After agents vanished from an environment that did not end: what the others' actions led to is what the
        critic sees next, without those who are gone.

        The rows of those who are gone keep the sight of all, their own last observation in it. Where their time was up,
        its value stands for the future in which they would have stayed, and so would the others have seen them.
        """
        first = environment * self.size
        rows = first + np.flatnonzero(self.there[first : first + self.size])
        for index in range(len(self.interface.critic_parts)):
            self.buffers[f"final_critic{index}"][rows] = self.buffers[f"obs_critic{index}"][rows]


def _critic_views(
    interface: GroupInterface,
    environments: int,
    seen: list[np.ndarray],
    critic: list[np.ndarray],
    states: list[np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the critic sees, as pairs of views: (of its arrays, of what is copied there)."""
    size, width = len(interface.members), interface.vector
    if interface.critic == "own":
        return []
    if interface.critic == "state":
        pairs = zip(critic, states, strict=True)
        return [(mine.reshape(environments, size, *whole.shape[1:]), whole[:, None]) for mine, whole in pairs]
    own_too = interface.critic == "agent_state"
    mine, own = ([array.reshape(environments, size, *array.shape[1:]) for array in arrays] for arrays in (critic, seen))
    images = [array for array in own if array.ndim == 5]
    joined = [image[:, slot, None] for slot in range(size) for image in images] + images * own_too
    views = list(zip(mine[len(mine) - len(joined) :], joined, strict=True))
    if own_too:
        mine[0][..., -size:] = np.eye(size)
    if width:
        vector, columns = own[0][..., :width], mine[0]
        views.append((columns[..., : size * width].reshape(environments, size, size, width), vector[:, None]))
        views += [(columns[..., size * width : -size], vector)] * own_too
    return views
