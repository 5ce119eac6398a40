"""Run towards a far point upright: what Isaac Gym's Ant and Humanoid have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.common import symmetric_obs
from environments.tasks.isaac_common import FREE, FREE_SPEEDS, RobotTask, between
from environments.tasks.isaac_rotations import body_axes, roll_yaw, rotate_inverse
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant, write_rows

TARGET = 1000.0  # metres ahead along x
UPRIGHT = 0.93  # the least z of the body's own z axis that counts as upright
STRAIGHT = 0.8  # the cosine to the target's direction beyond which heading pays no more
SECONDS = 0.0166  # of simulated time for one action


@dataclass(frozen=True)
class Locomotion(RobotTask):
    """Reward = progress + alive + up + heading - actions - energy - limits, or fall_cost where it falls.

    progress   speed towards a point 1000 m ahead
    alive      alive_reward each step
    up         up_reward while the torso leans by less than about 21 degrees
    heading    heading_reward while the torso faces the target within 37 degrees, beyond that as the cosine
    actions    action_cost * |action|^2
    energy     energy_cost * sum of |action * scaled joint velocity|, joints weighted by their strength
    limits     for joints that are at a limit

    Terminates where the torso is lower than fall_height. The forces on the feet are those with which the leg above acts
    on each, in the foot's frame; what Isaac Gym's own force sensors add up is not published.
    """

    substeps: int = 2
    max_episode_steps: int = 1000
    alive_reward: float = 0.5
    up_reward: float = 0.1
    heading_reward: float = 0.5
    action_cost: float = 0.005
    energy_cost: float = 0.05
    fall_cost: float = -2.0
    fall_height: float = 0.31
    start_height: float = 0.44
    position_noise: float = 0.2
    velocity_noise: float = 0.1

    spin_scale: ClassVar[float]
    speed_scale: ClassVar[float]
    force_scale: ClassVar[float]

    def wrapped(self, roll: Tensor, yaw: Tensor, bearing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Yaw, roll and the direction to the target seen from the torso, [N] each, wrapped as the task does it."""
        raise NotImplementedError

    def limit_cost(self, scaled: Tensor, strengths: Tensor) -> Tensor:
        """[N] from joint positions [N, J] whose limits are at -1 and 1, and the joints' weights."""
        raise NotImplementedError

    def strengths(self, sim: Simulation) -> Tensor:
        """[J] or [1], weights of the joints in the costs of energy and limits."""
        return constant((1.0,), sim)

    def joint_forces(self, sim: Simulation) -> tuple[Tensor, ...]:
        """Forces of the joints, scaled, where the task shows them."""
        return ()

    def start(self, sim: Simulation) -> Memory:
        sim.bind("sensordata")
        position = torch.zeros(sim.rows, 2, device=sim.device, dtype=sim.dtype)
        return super().start(sim) | {"position": position}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        memory["position"].copy_(sim.bind("qpos")[:, :2])
        super().apply(sim, memory, action)

    def scaled(self, sim: Simulation) -> Tensor:
        """[N, J], joint positions with their limits at -1 and 1."""
        return between(sim.bind("qpos")[:, FREE:], *self.joint_limits)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
        quaternion = qpos[:, 3:FREE]
        axes = body_axes(quaternion)
        angles = self.wrapped(*roll_yaw(axes), bearing(qpos))
        forces = torch.cat((*self.joint_forces(sim), self.force_scale * sim.bind("sensordata")), 1)
        return symmetric_obs(
            (
                qpos[:, 2:3],
                rotate_inverse(quaternion, qvel[:, :3]),
                self.spin_scale * qvel[:, 3:FREE_SPEEDS],
                torch.stack((*angles, axes[:, 8], heading(qpos, axes[:, :2])), 1),
                self.scaled(sim),
                self.speed_scale * qvel[:, FREE_SPEEDS:],
                self.measured(memory, forces),
                memory["action"],
            )
        )

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        qpos, qvel, taken = sim.bind("qpos"), sim.bind("qvel"), memory["action"]
        axes, strengths = body_axes(qpos[:, 3:FREE]), self.strengths(sim)
        effort = (taken * self.speed_scale * qvel[:, FREE_SPEEDS:]).abs() * strengths
        facing = self.heading_reward * (heading(qpos, axes[:, :2]) / STRAIGHT).clamp(max=1.0)
        terms = {
            "reward_progress": progress(memory["position"], qpos[:, :2]) / SECONDS,
            "reward_up": self.up_reward * (axes[:, 8] > UPRIGHT),
            "reward_heading": facing,
            "reward_actions": -self.action_cost * taken.square().sum(1),
            "reward_energy": -self.energy_cost * effort.sum(1),
            "reward_limits": -self.limit_cost(self.scaled(sim), strengths),
        }
        fallen = qpos[:, 2] < self.fall_height
        reward = self.alive_reward + torch.stack(tuple(terms.values())).sum(0)
        return reward.masked_fill(fallen, self.fall_cost), fallen, terms

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        """The torso is as the engine's reset left it: upright, at rest, at start_height."""
        lower, upper = self.joint_limits
        nearest = tuple(min(max(0.0, low), high) for low, high in zip(lower, upper, strict=True))
        noise = draw.uniform(rows, -self.position_noise, self.position_noise, self.actions)
        spins = draw.uniform(rows, -self.velocity_noise, self.velocity_noise, self.actions)
        angles = (constant(nearest, sim) + noise).clamp(constant(lower, sim), constant(upper, sim))
        write_rows(sim.bind("qpos")[:, FREE:], rows, angles)
        write_rows(sim.bind("qvel")[:, FREE_SPEEDS:], rows, spins)
        self.forget(memory, rows)


def offset(position: Tensor) -> Tensor:
    """[N, 2], the target's place seen from horizontal positions [N, 2]."""
    return constant((TARGET, 0.0), position) - position


def heading(qpos: Tensor, forward: Tensor) -> Tensor:
    """Cosine [N] between x and y of the torso's x axis ([N, 2]) and the horizontal direction to the target."""
    ahead = offset(qpos[:, :2])
    return (forward * ahead).sum(1) / length(ahead)


def length(vector: Tensor) -> Tensor:
    """[N] of [N, 2]."""
    return torch.hypot(vector[:, 0], vector[:, 1])


def progress(before: Tensor, after: Tensor) -> Tensor:
    """Metres [N] by which the target came nearer, from horizontal positions [N, 2].

    A difference of two distances of 1000 m would lose a millimetre to float32's rounding, which is 4 mm/s: the
    difference of their squares is taken apart instead."""
    then, now = offset(before), offset(after)
    return ((after - before) * (then + now)).sum(1) / (length(then) + length(now))


def bearing(qpos: Tensor) -> Tensor:
    """[N], the direction to the target. It rises with the torso's height, a slip of the original: it means to be
    about z."""
    return torch.atan2(-qpos[:, 2], TARGET - qpos[:, 0])
