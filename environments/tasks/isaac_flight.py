"""What the flying Isaac tasks have in common: a free body whose place, attitude and velocities are watched.

Forces of rotors are MuJoCo actuators on sites, so they turn with the rotor within a step, on either engine. Nothing
collides: an episode ends well above the floor, which is there for the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from environments.tasks.common import symmetric_obs
from environments.tasks.isaac_rotations import rotate
from environments.tasks.isaac_rows import clipped
from ppo_and_friends.types import ActionSpace, Obs, TensorSpec
from ppo_and_friends.vector.sim.simulation import Simulation

POSITION, QUATERNION = slice(0, 3), slice(3, 7)  # of qpos, in metres
LINEAR, ANGULAR = slice(0, 3), slice(3, 6)  # of qvel


class Root(NamedTuple):
    """The free body of every row; velocities along the world's axes, in metres and radians a second."""

    position: Tensor  # [N, 3]
    quaternion: Tensor  # [N, 4]
    velocity: Tensor  # [N, 3]
    spin: Tensor  # [N, 3]


def root_of(sim: Simulation) -> Root:
    qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
    quaternion = qpos[:, QUATERNION]
    return Root(qpos[:, POSITION], quaternion, qvel[:, LINEAR], rotate(quaternion, qvel[:, ANGULAR]))


@dataclass(frozen=True)
class FlightTask:
    """The parts of a `Task` that do not depend on the aircraft. Actions are within -1 and 1."""

    max_episode_steps: int

    name: ClassVar[str]
    actions: ClassVar[int]
    observations: ClassVar[int]
    substeps: ClassVar[int] = 2
    forward_after_reset: ClassVar[bool] = False

    @property
    def action(self) -> ActionSpace:
        return ActionSpace("box", low=(-1.0,) * self.actions, high=(1.0,) * self.actions)

    @property
    def actor(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec((self.observations,)),)

    @property
    def critic(self) -> tuple[TensorSpec, ...]:
        return self.actor


def clipped_obs(parts: tuple[Tensor, ...]) -> Obs:
    """`parts` ([N, *]) in order, each number within +-5, for actor and critic."""
    return symmetric_obs((clipped(parts),))


def near(distance: Tensor) -> Tensor:
    """1 / (1 + distance^2)."""
    return 1 / (1 + distance.square())


def limit_speed(velocity: Tensor, limit: float) -> None:
    """Shorten the vectors `[N, 3]` that are longer than `limit`, in place, as PhysX does before it integrates."""
    length = torch.linalg.vector_norm(velocity, dim=1, keepdim=True).clamp(limit, inf)
    velocity.mul_(limit / length)
