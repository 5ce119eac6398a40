"""What the flying Isaac tasks have in common: a free body whose place, attitude and velocities are watched.

Forces of rotors are MuJoCo actuators on sites, so they turn with the rotor within a step, on either engine. Nothing
collides: an episode ends well above the floor, which is there for the picture.
"""

from __future__ import annotations

from math import inf, pi
from typing import Any, NamedTuple

import torch
from torch import Tensor

from environments.tasks.isaac_common import clipped_obs
from environments.tasks.isaac_model import AIRY, eye, scene
from environments.tasks.isaac_rotations import rotate, scalar_last, up_axis_height
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Simulation
from ppo_and_friends.vector.sim.tensors import constant

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


def above(height: float, root: Root) -> Tensor:
    """[N, 3], the way to the point so high above the world's origin."""
    return constant((0.0, 0.0, height), root.position) - root.position


def scaled_obs(root: Root, to_target: Tensor, *more: Tensor) -> Obs:
    """What Isaac Gym shows of a craft and of the way to its target, each number within +-5."""
    return clipped_obs((to_target / 3, scalar_last(root.quaternion), root.velocity / 2, root.spin / pi, *more))


def hover_reward(root: Root, to_target: Tensor, upright_weight: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    """near (1 + upright_weight upright + still) as IsaacQuadcopter explains it, [N], and what to log."""
    distance = torch.linalg.vector_norm(to_target, dim=1)
    position = near(distance)
    upright = upright_weight * position * near(1 - up_axis_height(root.quaternion))
    still = position * near(root.spin[:, 2])
    log = {"reward_position": position, "reward_upright": upright, "reward_still": still, "distance": distance}
    return position + upright + still, log


def near(distance: Tensor) -> Tensor:
    """1 / (1 + distance^2)."""
    return 1 / (1 + distance.square())


def limit_speed(velocity: Tensor, limit: float) -> None:
    """Shorten the vectors `[N, 3]` that are longer than `limit`, in place, as PhysX does before it integrates."""
    length = torch.linalg.vector_norm(velocity, dim=1, keepdim=True).clamp(limit, inf)
    velocity.mul_(limit / length)


def aircraft(
    parts: str, actuators: str, camera: tuple[str, str], start: float, target: float | None = None, **options: Any
) -> str:
    """MJCF of a free body of `parts`, `start` metres up, seen by a camera at a place with axes.

    target   height of a mark in the world
    options  of `scene`
    """
    mark = f'<site pos="0 0 {target}" size=".04" rgba=".9 .2 .2 .7"/>' if target is not None else ""
    body = f'<body pos="0 0 {start}">{eye(*camera)}<freejoint/>{parts}</body>'
    return scene(mark + body, actuators, defaults=AIRY + options.pop("defaults", ""), **options)


def thrusts(axes: tuple[str, ...], rotors: int) -> str:
    """MJCF of a force along each of `axes` at the sites rotor0, rotor1, ..."""
    return "".join(f'<motor site="rotor{rotor}" gear="{axis} 0 0 0"/>' for rotor in range(rotors) for axis in axes)
