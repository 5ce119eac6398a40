"""IsaacHumanoid: run on two legs with twenty-one joints. IsaacGymEnvs' Humanoid, which is not Gymnasium's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from environments.tasks.isaac_common import FREE_SPEEDS
from environments.tasks.isaac_locomotion import Locomotion
from environments.tasks.isaac_model import MOTORS, eye, scene, wrench_sensors
from environments.tasks.isaac_rotations import wrap
from ppo_and_friends.vector.sim.simulation import Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant

RIGHT, LEFT = -1, 1  # signs of y
LEG_GEARS = {"hip_x": 45.0, "hip_z": 45.0, "hip_y": 135.0, "knee": 90.0, "ankle_y": 22.5, "ankle_x": 22.5}
ARM_GEARS = {"shoulder_1": 67.5, "shoulder_2": 67.5, "elbow": 45.0}
GEARS = {
    **{f"abdomen_{axis}": 67.5 for axis in "zyx"},
    **{f"{side}_{joint}": gear for side in ("right", "left") for joint, gear in LEG_GEARS.items()},
    **{f"{side}_{joint}": gear for side in ("right", "left") for joint, gear in ARM_GEARS.items()},
}  # in the order of the joints in the model
STRENGTHS = tuple(gear / max(GEARS.values()) for gear in GEARS.values())
AT_LIMIT = 0.98


@dataclass(frozen=True)
class IsaacHumanoid(Locomotion):
    """`Locomotion` on two legs. A joint beyond 98 % of its range costs up to limit_weight, more than that beyond its
    limit; energy and limits of a joint are weighted by its motor's gear.

    The joints' forces are those of their motors; Isaac Gym's own sensors are not published. The joints' springs act as
    MuJoCo's do.
    """

    alive_reward: float = 2.0
    action_cost: float = 0.01
    limit_weight: float = 0.25
    fall_cost: float = -1.0
    fall_height: float = 0.8
    start_height: float = 1.34

    name: ClassVar[str] = "Humanoid (Isaac Gym semantics)"
    actions: ClassVar[int] = 21
    observations: ClassVar[int] = 108
    spin_scale: ClassVar[float] = 0.25
    speed_scale: ClassVar[float] = 0.1
    force_scale: ClassVar[float] = 0.01

    def start(self, sim: Simulation) -> Memory:
        sim.bind("qfrc_actuator")
        return super().start(sim)

    def wrapped(self, roll: Tensor, yaw: Tensor, bearing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All within [-pi, pi]."""
        return yaw, roll, wrap(bearing - yaw)

    def strengths(self, sim: Simulation) -> Tensor:
        return constant(STRENGTHS, sim)

    def joint_forces(self, sim: Simulation) -> tuple[Tensor, ...]:
        return (self.force_scale * sim.bind("qfrc_actuator")[:, FREE_SPEEDS:],)

    def limit_cost(self, scaled: Tensor, strengths: Tensor) -> Tensor:
        beyond = (scaled.abs() - AT_LIMIT).clamp_min(0.0) / (1 - AT_LIMIT)
        return self.limit_weight * (beyond * strengths).sum(1)

    def mjcf(self) -> str:
        robot = f"""
    <body name="torso" pos="0 0 {self.start_height}" childclass="humanoid">
      {eye("1.6 -3 .1", ".88 .47 0 -.03 .06 1")}
      <freejoint/>
      <geom fromto="0 -.07 0 0 .07 0" size=".07"/>
      <geom fromto="-.01 -.06 -.12 -.01 .06 -.12" size=".06"/>
      <geom type="sphere" pos="0 0 .19" size=".09"/>
      <body pos="-.01 0 -.26">
        <geom fromto="0 -.06 0 0 .06 0" size=".06"/>
        {_hinge("abdomen_z", "0 0 1", "-45 45", 5, 20, 0.02, 0.065)}
        {_hinge("abdomen_y", "0 1 0", "-75 30", 5, 20, 0.01, 0.065)}
        <body pos="0 0 -.165">
          {_hinge("abdomen_x", "1 0 0", "-35 35", 5, 10, 0.01, 0.1)}
          <geom fromto="-.02 -.07 0 -.02 .07 0" size=".09" material="limb"/>
          {_leg("right", RIGHT)}
          {_leg("left", LEFT)}
        </body>
      </body>
      {_arm("right", RIGHT)}
      {_arm("left", LEFT)}
    </body>"""
        defaults = f"""
    {MOTORS}
    <default class="humanoid">
      <joint solimplimit="0 .99 .01"/>
      <geom type="capsule" condim="1" friction="1 .05 .05" solimp=".9 .99 .003" solref=".015 1" material="body"/>
    </default>"""
        motors = "".join(f'<motor joint="{joint}" gear="{gear}"/>' for joint, gear in GEARS.items())
        sensors = wrench_sensors(("right_foot", "left_foot"))
        # with 4 iterations limbs that hit each other are thrown apart
        return scene(robot, motors, sensors, defaults, timestep=0.0083, iterations=8)


def _hinge(
    name: str, axis: str, limits: str, damping: float, stiffness: float, armature: float, height: float = 0.0
) -> str:
    """A joint `height` above its body's origin, with limits in degrees."""
    return (
        f'<joint name="{name}" axis="{axis}" pos="0 0 {height}" range="{limits}" damping="{damping}" '
        f'stiffness="{stiffness}" armature="{armature}"/>'
    )


def _leg(side: str, y: int) -> str:
    """A mirrored joint turns the other way about x and z, so that both legs move alike for the same number."""
    return f"""
          <body pos="0 {0.1 * y} -.04">
            {_hinge(f"{side}_hip_x", f"{-y} 0 0", "-45 15", 5, 10, 0.01)}
            {_hinge(f"{side}_hip_z", f"0 0 {-y}", "-60 35", 5, 10, 0.01)}
            {_hinge(f"{side}_hip_y", "0 1 0", "-120 45", 5, 20, 0.01)}
            <geom fromto="0 0 0 0 {-0.01 * y} -.34" size=".06"/>
            <body pos="0 {-0.01 * y} -.403">
              {_hinge(f"{side}_knee", "0 -1 0", "-160 2", 0.1, 5, 0.007, 0.02)}
              <geom fromto="0 0 0 0 0 -.3" size=".049"/>
              <body pos="0 0 -.39">
                {_hinge(f"{side}_ankle_y", "0 1 0", "-50 50", 1, 2, 0.006, 0.08)}
                {_hinge(f"{side}_ankle_x", "1 0 .5", "-50 50", 1, 2, 0.006, 0.08)}
                <geom fromto="-.07 {0.02 * y} 0 .14 {0.04 * y} 0" size=".027" material="limb"/>
                <geom fromto="-.07 0 0 .14 {-0.02 * y} 0" size=".027" material="limb"/>
                <site name="{side}_foot"/>
              </body>
            </body>
          </body>"""


def _arm(side: str, y: int) -> str:
    return f"""
      <body pos="0 {0.17 * y} .06">
        {_hinge(f"{side}_shoulder_1", f"{-2 * y} 1 {-y}", "-90 70", 5, 10, 0.01)}
        {_hinge(f"{side}_shoulder_2", f"0 -1 {-y}", "-90 70", 5, 10, 0.01)}
        <geom fromto="0 0 0 .16 {0.16 * y} -.16" size=".04"/>
        <body pos=".18 {0.18 * y} -.18">
          {_hinge(f"{side}_elbow", f"0 -1 {-y}", "-90 50", 1, 2, 0.006)}
          <geom fromto=".01 {-0.01 * y} .01 .17 {-0.17 * y} .17" size=".031"/>
          <geom type="sphere" pos=".18 {-0.18 * y} .18" size=".04" material="limb"/>
        </body>
      </body>"""
