"""IsaacBallBalance: catch a ball on a tray with three legs, and hold it. IsaacGymEnvs' BallBalance."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_common import FREE, FREE_SPEEDS, RobotTask, clipped_obs
from environments.tasks.isaac_model import eye, scene, wrench_sensors
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant, write_rows

TRAY_HEIGHT = 0.559
LEG = 0.36  # length of each half of a leg
SPREAD = 0.4  # distance of hinges and feet from the middle
LEGS = 3
BALL = FREE + 2 * LEGS  # where the ball's coordinates begin: after the tray and two hinges a leg
BALL_SPEEDS = FREE_SPEEDS + 2 * LEGS


@dataclass(frozen=True)
class IsaacBallBalance(RobotTask):
    """Reward = 1 / (1 + distance of the ball from a point above the tray's middle) * 1 / (1 + its speed).

    An action turns the targets of the three lower hinges by up to turn radians; the upper hinges are free, the feet
    are held in place. Terminates where the ball's centre is lower than lowest_ball. The ball starts 1 to 2 m up and up
    to half a metre off the middle, on its way down and inwards.

    Isaac Gym measures with three sensors of unpublished content on the tray. Here they measure with what the tray acts
    on each leg at its hinge, in axes that are the tray's while the leg is at its start.
    """

    substeps: int = 1
    max_episode_steps: int = 500
    turn: float = 0.2
    lowest_ball: float = 0.15
    aim: float = 0.7
    distances: tuple[float, float] = (0.001, 0.5)
    heights: tuple[float, float] = (1.0, 2.0)
    largest_speed: float = 5.0

    name: ClassVar[str] = "BallBalance (Isaac Gym semantics)"
    actions: ClassVar[int] = LEGS
    observations: ClassVar[int] = 24
    force_scale: ClassVar[float] = 1 / 20

    def start(self, sim: Simulation) -> Memory:
        sim.bind("sensordata")
        return super().start(sim)

    def controls(self, sim: Simulation, action: Tensor) -> Tensor:
        lower, upper = (constant(limits[1::2], sim) for limits in self.joint_limits)
        return (sim.bind("ctrl") + self.turn * action).clamp(lower, upper)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
        wrenches = self.measured(memory, self.force_scale * sim.bind("sensordata")).unflatten(1, (LEGS, 6))
        return clipped_obs(
            (
                qpos[:, FREE + 1 : BALL : 2],
                qvel[:, FREE_SPEEDS + 1 : BALL_SPEEDS : 2],
                qpos[:, BALL : BALL + 3],
                qvel[:, BALL_SPEEDS : BALL_SPEEDS + 3],
                wrenches[:, :, 0],
                wrenches[:, :, 3:].transpose(1, 2).flatten(1),
            )
        )

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        ball = sim.bind("qpos")[:, BALL : BALL + 3]
        distance = torch.linalg.vector_norm(ball - constant((0.0, 0.0, self.aim), sim), dim=1)
        speed = torch.linalg.vector_norm(sim.bind("qvel")[:, BALL_SPEEDS : BALL_SPEEDS + 3], dim=1)
        near, still = 1 / (1 + distance), 1 / (1 + speed)
        return near * still, ball[:, 2] < self.lowest_ball, {"reward_near": near, "reward_still": still}

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        """Tray and legs are as the engine's reset left them: as built, at rest, targets 0."""
        (nearest, farthest), (lowest, highest) = self.distances, self.heights
        angle, far, height, haste = draw.uniform(rows, 0.0, 1.0, 4).unbind(1)
        angle = 2 * pi * angle
        distance = nearest + (farthest - nearest) * far
        inwards = -far * self.largest_speed * haste
        direction = torch.stack((angle.cos(), angle.sin()), 1)
        position = torch.cat((distance[:, None] * direction, (lowest + (highest - lowest) * height)[:, None]), 1)
        down = torch.full_like(angle, -self.largest_speed)
        velocity = torch.cat((inwards[:, None] * direction, down[:, None]), 1)
        write_rows(sim.bind("qpos")[:, BALL : BALL + 3], rows, position)
        write_rows(sim.bind("qvel")[:, BALL_SPEEDS : BALL_SPEEDS + 3], rows, velocity)
        sim.bind("ctrl").masked_fill_(rows[:, None], 0.0)
        self.forget(memory, rows)

    def mjcf(self) -> str:
        robot = f"""
    {eye("0 -2.4 1.7", "1 0 0 0 .42 1")}
    <body name="tray" pos="0 0 {TRAY_HEIGHT}">
      <freejoint/>
      <geom type="cylinder" size=".5 .01" density="100" contype="2" conaffinity="2" material="limb"/>
      {"".join(_leg(number) for number in range(LEGS))}
    </body>
    <body name="ball" pos=".2 0 2">
      <freejoint/>
      <geom type="sphere" size=".1" density="200" contype="3" conaffinity="3" material="body"/>
    </body>"""
        numbers = range(LEGS)
        drives = "".join(f'<position joint="lower_{n}" kp="4000" kv="100"/>' for n in numbers)
        feet = "".join(f'<connect body1="lower_{n}" body2="world" anchor="0 0 {LEG}"/>' for n in numbers)
        sensors = wrench_sensors(tuple(f"hinge_{n}" for n in numbers))
        closed = f"<equality>{feet}</equality>"
        return scene(robot, drives, sensors, extra=closed, timestep=0.01, integrator="discrete")


def _leg(number: int) -> str:
    """Inwards and down to the knee, outwards and down to the foot; each half points along its own z axis."""
    around, down = 2 * pi * number / LEGS, -0.75 * pi
    a, b = (cos(around / 2), sin(around / 2)), (cos(down / 2), sin(down / 2))
    w, x, y, z = a[0] * b[0], -a[1] * b[1], a[0] * b[1], a[1] * b[0]  # about y by `down`, then about z by `around`
    half = f'<geom type="capsule" fromto="0 0 0 0 0 {LEG}" size=".02" density="1000" contype="0" conaffinity="0"/>'
    return f"""
      <body pos="{SPREAD * cos(around)} {SPREAD * sin(around)} -.03" quat="{w} {x} {y} {z}">
        <joint name="upper_{number}" axis="0 1 0" range="-45 45"/>
        <site name="hinge_{number}" quat="{w} {-x} {-y} {-z}"/>
        {half}
        <body name="lower_{number}" pos="0 0 {LEG}" euler="0 -90 0">
          <joint name="lower_{number}" axis="0 1 0" range="-70 90"/>
          {half}
        </body>
      </body>"""
