"""IsaacAnt: run on four legs of two joints. IsaacGymEnvs' Ant, which is not Gymnasium's."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_locomotion import Locomotion
from environments.tasks.isaac_model import MOTORS, eye, scene, wrench_sensors

# signs of x and y in which a leg points, its knee's axis, and the knee's limits in degrees
LEGS = (
    (1, 1, "-1 1 0", "30 100"),
    (-1, 1, "1 1 0", "-100 -30"),
    (-1, -1, "-1 1 0", "-100 -30"),
    (1, -1, "1 1 0", "30 100"),
)


@dataclass(frozen=True)
class IsaacAnt(Locomotion):
    """`Locomotion` on four legs. Each joint at its upper limit costs limit_weight; the lower limits are free.

    Yaw and roll are observed in [0, 2 pi).
    """

    limit_weight: float = 0.1

    name: ClassVar[str] = "Ant (Isaac Gym semantics)"
    actions: ClassVar[int] = 8
    observations: ClassVar[int] = 60
    spin_scale: ClassVar[float] = 1.0
    speed_scale: ClassVar[float] = 0.2
    force_scale: ClassVar[float] = 0.1

    def wrapped(self, roll: Tensor, yaw: Tensor, bearing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Yaw and roll in [0, 2 pi)."""
        roll, yaw = torch.remainder(roll, 2 * pi), torch.remainder(yaw, 2 * pi)
        return yaw, roll, bearing - yaw

    def limit_cost(self, scaled: Tensor, strengths: Tensor) -> Tensor:
        return self.limit_weight * (scaled > 0.99).sum(1)

    def mjcf(self) -> str:
        legs = "".join(_leg(number, *leg) for number, leg in enumerate(LEGS, 1))
        stubs = "".join(f'<geom fromto="0 0 0 {0.2 * x} {0.2 * y} 0"/>' for x, y, *_ in LEGS)
        robot = f"""
    <body name="torso" pos="0 0 {self.start_height}" childclass="ant">
      {eye("0 -3 1.4", "1 0 0 0 .42 1")}
      <freejoint/>
      <geom type="sphere" size=".25"/>
      {stubs}
      {legs}
    </body>"""
        # the robot meets the floor only: its own parts pass through each other
        defaults = f"""
    {MOTORS}
    <default class="ant">
      <joint armature=".01" damping=".1"/>
      <geom type="capsule" size=".08" density="5" friction="1.5 .1 .1" margin=".01" contype="0" material="body"/>
    </default>"""
        numbers = range(1, len(LEGS) + 1)
        motors = "".join(f'<motor joint="{part}_{n}" gear="15"/>' for n in numbers for part in ("hip", "ankle"))
        sensors = wrench_sensors(tuple(f"foot_{n}" for n in numbers))
        # with "implicitfast" a leg that is swung fast enough while it touches the floor throws the robot away
        return scene(robot, motors, sensors, defaults, timestep=0.0083, integrator="implicit")


def _leg(number: int, x: int, y: int, axis: str, limits: str) -> str:
    return f"""
      <body pos="{0.2 * x} {0.2 * y} 0">
        <joint name="hip_{number}" axis="0 0 1" range="-40 40"/>
        <geom fromto="0 0 0 {0.2 * x} {0.2 * y} 0"/>
        <body pos="{0.2 * x} {0.2 * y} 0">
          <joint name="ankle_{number}" axis="{axis}" range="{limits}"/>
          <geom fromto="0 0 0 {0.4 * x} {0.4 * y} 0" material="limb"/>
          <site name="foot_{number}"/>
        </body>
      </body>"""
