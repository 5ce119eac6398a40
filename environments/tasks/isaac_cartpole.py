"""IsaacCartpole: balance a pole on a cart that is pushed with up to 400 N. IsaacGymEnvs' Cartpole."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_common import RobotTask, clipped_obs
from environments.tasks.isaac_model import MOTORS, eye, scene
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import write_rows


@dataclass(frozen=True)
class IsaacCartpole(RobotTask):
    """Reward = 1 - angle^2 - 0.01 |cart's velocity| - 0.005 |pole's velocity|, or -2 where it ends.

    Terminates where the cart is more than 3 m from the middle or the pole leans by more than 90 degrees. Observed are
    the positions and velocities of both. PhysX's bound of 8 rad/s on the pole's velocity is left out.
    """

    substeps: int = 2
    max_episode_steps: int = 500
    largest_offset: float = 3.0
    largest_angle: float = pi / 2
    fall_cost: float = -2.0
    position_noise: float = 0.1
    velocity_noise: float = 0.25

    name: ClassVar[str] = "Cartpole (Isaac Gym semantics)"
    actions: ClassVar[int] = 1
    observations: ClassVar[int] = 4

    def mjcf(self) -> str:
        robot = f"""
    {eye("7.5 0 2.3", "0 1 0 0 0 1")}
    <body pos="0 0 2">
      <geom type="box" size=".015 4 .015" class="picture" material="limb"/>
      <body>
        <joint name="cart" type="slide" axis="0 1 0" range="-4 4"/>
        <geom type="box" size=".1 .125 .1" mass="1" contype="0" conaffinity="0" material="limb"/>
        <body pos=".12 0 0">
          <joint name="pole" axis="1 0 0"/>
          <geom type="box" size=".02 .03 .5" pos="0 0 .47" mass="1" contype="0" conaffinity="0" material="body"/>
        </body>
      </body>
    </body>"""
        return scene(robot, '<motor joint="cart" gear="400"/>', defaults=MOTORS, timestep=0.0083)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        position, velocity = sim.bind("qpos"), sim.bind("qvel")
        return clipped_obs((torch.stack((position, velocity), 2).flatten(1),))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        (offset, angle), (speed, spin) = sim.bind("qpos").unbind(1), sim.bind("qvel").unbind(1)
        lost = (offset.abs() > self.largest_offset) | (angle.abs() > self.largest_angle)
        reward = 1 - angle.square() - 0.01 * speed.abs() - 0.005 * spin.abs()
        return reward.masked_fill(lost, self.fall_cost), lost, {}

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        write_rows(sim.bind("qpos"), rows, draw.uniform(rows, -self.position_noise, self.position_noise, 2))
        write_rows(sim.bind("qvel"), rows, draw.uniform(rows, -self.velocity_noise, self.velocity_noise, 2))
        self.forget(memory, rows)
