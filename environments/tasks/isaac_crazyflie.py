"""IsaacCrazyflie: a small quadrotor rises a metre and hovers (OmniIsaacGymEnvs' Crazyflie)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_common import IsaacTask, clipped_obs
from environments.tasks.isaac_flight import above, aircraft, root_of, thrusts
from environments.tasks.isaac_rotations import body_axes, up_axis_height
from environments.tasks.isaac_stream import normal, seed_stream, start_stream
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation

TIMESTEP = 0.01
MASS = 0.028  # kg
MAX_THRUST = 9.81 * MASS * 1.9 / 4  # N of a rotor: all four lift 1.9 times the weight
LAG = 4 * TIMESTEP / 0.15  # how much of the way to the wanted speed a rotor goes in a step
THRUST_NOISE = 0.01
TARGET_HEIGHT = 2.0
SCALE = 5  # how many times as large as the real one
ARM = SCALE * 0.0325  # of a rotor along x and y, metres


@dataclass(frozen=True)
class IsaacCrazyflie(IsaacTask):
    """Reward = near (1 + up + calm) - effort.

    near    1 / (1 + distance to (0, 0, 2))
    up      z of the body's up axis, from 0 to 1
    calm    0.01 exp(-|angular velocity|^2)
    effort  0.05 exp(-|action|^2 / 2): it is subtracted, and largest for no action at all

    Ends more than 5 m from the target, below 0.5 m, above 5 m, or upside down. A rotor's speed follows its command with
    a lag; the thrust goes with its square, and has noise of each row's own. Thrust acts along the body's z axis (the
    original turns it by the inverse rotation). The body is five times as large as the real Crazyflie, as in the
    original; its mass is that of the thrust formula and its inertia that of the real one, scaled with the size: what
    the closed asset has is not known.
    """

    substeps: int = 1
    max_episode_steps: int = 700

    name: ClassVar[str] = "Crazyflie (OmniIsaacGymEnvs semantics)"
    actions: ClassVar[int] = 4
    observations: ClassVar[int] = 18

    def start(self, sim: Simulation) -> Memory:
        speed = torch.zeros(sim.rows, self.actions, dtype=sim.dtype, device=sim.device)
        return {"rotor_speed": speed, **start_stream(sim)}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        command, speed = ((action + 1) / 2).to(sim.dtype), memory["rotor_speed"]
        speed.add_(LAG * (command.sqrt() - speed))
        noise = THRUST_NOISE * command * normal(memory, self.actions, sim.dtype)
        sim.bind("ctrl").copy_(MAX_THRUST * (speed.square() + noise).clamp(0, 1))

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        root = root_of(sim)
        return clipped_obs((above(TARGET_HEIGHT, root), body_axes(root.quaternion), root.velocity, root.spin))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        root = root_of(sim)
        distance = torch.linalg.vector_norm(above(TARGET_HEIGHT, root), dim=1)
        height, up = root.position[:, 2], up_axis_height(root.quaternion)
        position = 1 / (1 + distance)
        upright = position * up.clamp(0, 1)
        calm = position * 0.01 * torch.exp(-root.spin.square().sum(1))
        effort = -0.05 * torch.exp(-0.5 * action.square().sum(1))
        log = {
            "reward_position": position,
            "reward_upright": upright,
            "reward_calm": calm,
            "reward_effort": effort,
            "distance": distance,
        }
        ends = (distance > 5) | (height < 0.5) | (height > 5) | (up < 0)
        return position + upright + calm + effort, ends, log

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        """Always the model's own start, at rest 1 m above the floor."""
        seed_stream(memory, rows, draw)
        memory["rotor_speed"].masked_fill_(rows[:, None], 0)

    def mjcf(self) -> str:
        places = [(ARM, -ARM), (-ARM, -ARM), (-ARM, ARM), (ARM, ARM)]
        rotors = "".join(
            f"""
      <geom type="capsule" fromto="0 0 0 {x} {y} 0" size="0.015" material="limb"/>
      <geom type="cylinder" pos="{x} {y} 0.05" size="{SCALE * 0.0234} 0.004" material="body"/>
      <site name="rotor{number}" pos="{x} {y} 0"/>"""
            for number, (x, y) in enumerate(places)
        )
        inertia = " ".join(str(SCALE**2 * moment) for moment in (1.4e-5, 1.4e-5, 2.17e-5))
        body = f"""
      <inertial pos="0 0 0" mass="{MASS}" diaginertia="{inertia}"/>
      <geom type="box" size="0.09 0.09 0.03" material="limb"/>"""
        camera = ("0 -1.2 0.6", "1 0 0 0 0.45 0.89")
        return aircraft(body + rotors, thrusts(("0 0 1",), 4), camera, 1, TARGET_HEIGHT, timestep=TIMESTEP)
