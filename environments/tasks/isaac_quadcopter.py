"""IsaacQuadcopter: hover at a point with four rotors that tilt on arms (Isaac Gym's Quadcopter)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_flight import ANGULAR, FlightTask, clipped_obs, limit_speed, near, root_of
from environments.tasks.isaac_model import FLOOR, SCENERY, compile_model
from environments.tasks.isaac_rotations import scalar_last, up_axis_height
from environments.tasks.isaac_rows import write_rows
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation

TIMESTEP = 0.005
STEP = 0.01  # seconds of an action
JOINTS = 8  # pitch and roll of each arm
TILT_LIMIT = math.radians(30)
TILT_RATE, THRUST_RATE = 8 * math.pi, 200.0  # rad/s and N/s at full action
THRUST_LIMIT = 2.0  # N for each rotor
MAX_SPIN = 4 * math.pi  # rad/s
TARGET_HEIGHT = 1.0


@dataclass(frozen=True)
class IsaacQuadcopter(FlightTask):
    """Reward = near (1 + upright + still), 3 at best.

    near     1 / (1 + distance to (0, 0, 1)^2)
    upright  1 / (1 + (1 - z of the body's up axis)^2)
    still    1 / (1 + (rate about the world's z axis)^2)

    Ends more than 3 m from the target or below 0.3 m. The actions move the targets of pitch and roll of each arm and
    the four thrusts, so the targets are part of the state, kept in `ctrl`, but not of the observation.
    PhysX solves a position drive without damping implicitly; MuJoCo is given the damping that such a step has,
    stiffness times the time step.
    """

    max_episode_steps: int = 500

    name: ClassVar[str] = "Quadcopter (Isaac Gym semantics)"
    actions: ClassVar[int] = 12
    observations: ClassVar[int] = 21

    def model(self) -> Any:
        return compile_model(_mjcf())

    def start(self, sim: Simulation) -> Memory:
        return {}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        tilts, thrusts = sim.bind("ctrl").split(JOINTS, 1)
        tilts.add_(STEP * TILT_RATE * action[:, :JOINTS]).clamp_(-TILT_LIMIT, TILT_LIMIT)
        thrusts.add_(STEP * THRUST_RATE * action[:, JOINTS:]).clamp_(0, THRUST_LIMIT)
        limit_speed(sim.bind("qvel")[:, ANGULAR], MAX_SPIN)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        root = root_of(sim)
        return clipped_obs(
            (
                _to_target(root.position) / 3,
                scalar_last(root.quaternion),
                root.velocity / 2,
                root.spin / math.pi,
                sim.bind("qpos")[:, 7:],
            )
        )

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        root = root_of(sim)
        distance = torch.linalg.vector_norm(_to_target(root.position), dim=1)
        position = near(distance)
        upright = position * near(1 - up_axis_height(root.quaternion))
        still = position * near(root.spin[:, 2])
        log = {"reward_position": position, "reward_upright": upright, "reward_still": still, "distance": distance}
        return position + upright + still, (distance > 3) | (root.position[:, 2] < 0.3), log

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        qpos = sim.bind("qpos")
        write_rows(qpos[:, :2], rows, draw.uniform(rows, -1.5, 1.5, 2))
        write_rows(qpos[:, 2:3], rows, TARGET_HEIGHT + draw.uniform(rows, -0.2, 1.5, 1))
        angles = draw.uniform(rows, -0.2, 0.2, JOINTS)
        write_rows(qpos[:, 7:], rows, angles)
        write_rows(sim.bind("ctrl")[:, :JOINTS], rows, angles)


def _to_target(position: Tensor) -> Tensor:
    return torch.cat((-position[:, :2], TARGET_HEIGHT - position[:, 2:]), 1)


def _mjcf() -> str:
    stiffness, limit = 1000, TILT_LIMIT
    arms = "".join(_arm(number, 45 + 90 * number) for number in range(4))
    drives = "".join(
        f'<position joint="{joint}{arm}" kp="{stiffness}" kv="{stiffness * TIMESTEP}"/>'
        for arm in range(4)
        for joint in ("pitch", "roll")
    )
    thrusts = "".join(f'<motor site="rotor{arm}" gear="0 0 1 0 0 0"/>' for arm in range(4))
    return f"""
<mujoco model="quadcopter">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP}" integrator="implicitfast" solver="Newton" iterations="5" ls_iterations="10"/>
  <default>
    <geom contype="0" conaffinity="0" rgba="0.25 0.27 0.3 1"/>
    <joint range="{-limit} {limit}"/>
  </default>
  {SCENERY}
  <worldbody>
    {FLOOR}
    <site name="target" pos="0 0 {TARGET_HEIGHT}" size="0.03" rgba="0.9 0.2 0.2 0.7"/>
    <body name="chassis" pos="0 0 {TARGET_HEIGHT}">
      <camera name="track" mode="trackcom" pos="0 -0.75 0.4" xyaxes="1 0 0 0 0.47 0.88"/>
      <freejoint/>
      <geom type="cylinder" size="0.1 0.015" density="50" rgba="0.85 0.5 0.15 1"/>
      {arms}
    </body>
  </worldbody>
  <actuator>{drives}{thrusts}</actuator>
</mujoco>"""


def _arm(number: int, degrees: float) -> str:
    """A short arm that pitches about its own y axis; a rotor at its end that rolls about its x axis."""
    angle = math.radians(degrees)
    x, y = 0.1025 * math.cos(angle), 0.1025 * math.sin(angle)
    return f"""
      <body pos="{x} {y} 0" quat="{math.cos(angle / 2)} 0 0 {math.sin(angle / 2)}">
        <joint name="pitch{number}" axis="0 1 0"/>
        <geom type="sphere" size="0.01" density="200"/>
        <geom type="capsule" fromto="0 0 0 0.0425 0 0" size="0.004" mass="0"/>
        <body pos="0.0425 0 0">
          <joint name="roll{number}" axis="1 0 0"/>
          <geom type="cylinder" size="0.04 0.005" density="1000" rgba="0.2 0.45 0.7 1"/>
          <site name="rotor{number}"/>
        </body>
      </body>"""
