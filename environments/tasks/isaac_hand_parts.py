"""What can be observed of a hand with a cube, part by part, and the layouts made of them.

Isaac Gym's joint forces and fingertip forces are a closed simulator's: here a joint force is the torque of its actuator
(`qfrc_actuator`), and a fingertip's force and torque are MuJoCo's sensors at its joint, contacts and inertia included.
What is derived from a pose (fingertips, forces) is, as after every MuJoCo step, that of the last substep's start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from environments.tasks.isaac_common import between
from environments.tasks.isaac_rotations import conjugate, multiply, rotate, scalar_last
from ppo_and_friends.types import TensorSpec
from ppo_and_friends.vector.sim.simulation import Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant

TIP = 13  # columns of a fingertip: place 3, quaternion 4, velocity 3, angular velocity 3
WRENCH = 6  # force 3, torque 3


@dataclass(frozen=True)
class Hand:
    """The numbers of a hand model, whose joints come first in qpos and then the cube's free joint.

    ranges       of each joint, radians
    actuated     joints with an actuator, in the order of the actuators
    tips         fingertips with sensors: the states (`TIP`) of all of them come first, then their forces (`WRENCH`)
    cube_start   metres
    """

    ranges: tuple[tuple[float, float], ...]
    actuated: tuple[int, ...]
    tips: int
    cube_start: tuple[float, float, float]

    @property
    def joints(self) -> int:
        return len(self.ranges)


class Limits(NamedTuple):
    """Of the joints [J]; of the actuated ones [A], and which these are."""

    lower: Tensor
    upper: Tensor
    low: Tensor
    high: Tensor
    actuated: Tensor


def limits_of(hand: Hand, sim: Simulation) -> Limits:
    lower, upper = zip(*hand.ranges, strict=True)
    low, high = zip(*(hand.ranges[joint] for joint in hand.actuated), strict=True)
    lower, upper, low, high = (constant(values, sim) for values in (lower, upper, low, high))
    return Limits(lower, upper, low, high, constant(hand.actuated, sim, torch.int64))


def cube_pose(hand: Hand, sim: Simulation) -> Tensor:
    """[N, 7]: place, and the quaternion with its scalar first."""
    return sim.bind("qpos")[:, hand.joints :]


def turn_to_goal(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    """[N, 4], scalar first: the rotation from the goal to the cube."""
    return multiply(cube_pose(hand, sim)[:, 3:], conjugate(memory["goal"]))


Part = Callable[[Hand, Simulation, Memory], Tensor]


def joints(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    """-1 at the lower limit, 1 at the upper one."""
    return between(sim.bind("qpos")[:, : hand.joints], *zip(*hand.ranges, strict=True))


def joint_velocities(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return 0.2 * sim.bind("qvel")[:, : hand.joints]


def joint_forces(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    """None at an episode's start, where the targets are the joints' own positions."""
    started = (memory["age"] == 0)[:, None]
    return 10 * sim.bind("qfrc_actuator")[:, : hand.joints].masked_fill(started, 0)


def cube_place(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return cube_pose(hand, sim)[:, :3]


def cube(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return _scalar_last_pose(*cube_pose(hand, sim).split((3, 4), 1))


def cube_velocity(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    velocity, spin = sim.bind("qvel")[:, hand.joints :].split(3, 1)
    return torch.cat((velocity, 0.2 * rotate(cube_pose(hand, sim)[:, 3:], spin)), 1)


def goal(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return _scalar_last_pose(memory["goal_place"], memory["goal"])


def to_goal(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return scalar_last(turn_to_goal(hand, sim, memory))


def tip_places(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return _tips(hand, sim)[..., :3].flatten(1)


def tips(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    place, quaternion, velocities = _tips(hand, sim).split((3, 4, 6), -1)
    return torch.cat((place, scalar_last(quaternion), velocities), -1).flatten(1)


def tip_forces(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return 10 * sim.bind("sensordata")[:, TIP * hand.tips :]


def action(hand: Hand, sim: Simulation, memory: Memory) -> Tensor:
    return memory["action"]


def _tips(hand: Hand, sim: Simulation) -> Tensor:
    return sim.bind("sensordata")[:, : TIP * hand.tips].unflatten(1, (hand.tips, TIP))


def _scalar_last_pose(place: Tensor, quaternion: Tensor) -> Tensor:
    return torch.cat((place, scalar_last(quaternion)), 1)


def observation_spec(hand: Hand, layout: tuple[Part, ...]) -> TensorSpec:
    """The columns that `layout` has, by the names of its parts."""
    widths: dict[Part, int] = dict.fromkeys((joints, joint_velocities, joint_forces), hand.joints)
    widths |= {cube_place: 3, cube: 7, cube_velocity: 6, goal: 7, to_goal: 4, action: len(hand.actuated)}
    widths |= {tip_places: 3 * hand.tips, tips: TIP * hand.tips, tip_forces: WRENCH * hand.tips}
    fields, first = [], 0
    for part in layout:
        fields.append((part.__name__, first, first + widths[part]))
        first += widths[part]
    return TensorSpec((first,), fields=tuple(fields))
