"""IsaacQuadcopter: hover at a point with four rotors that tilt on arms (Isaac Gym's Quadcopter)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from environments.tasks.isaac_common import IsaacTask
from environments.tasks.isaac_flight import (
    ANGULAR,
    above,
    aircraft,
    hover_reward,
    limit_speed,
    root_of,
    scaled_obs,
    thrusts,
)
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import write_rows

TIMESTEP = 0.005
STEP = 0.01  # seconds of an action
JOINTS = 8  # pitch and roll of each arm
TILT_LIMIT = math.radians(30)
TILT_RATE, THRUST_RATE = 8 * math.pi, 200.0  # rad/s and N/s at full action
THRUST_LIMIT = 2.0  # N for each rotor
MAX_SPIN = 4 * math.pi  # rad/s
TARGET_HEIGHT = 1.0


@dataclass(frozen=True)
class IsaacQuadcopter(IsaacTask):
    """Reward = near (1 + upright + still), 3 at best.

    near     1 / (1 + distance to (0, 0, 1)^2)
    upright  1 / (1 + (1 - z of the body's up axis)^2)
    still    1 / (1 + (rate about the world's z axis)^2)

    Ends more than 3 m from the target or below 0.3 m. The actions move the targets of pitch and roll of each arm and
    the four thrusts, so the targets are part of the state, kept in `ctrl`, but not of the observation.
    PhysX solves a position drive without damping implicitly; MuJoCo is given the damping that such a step has,
    stiffness times the time step.
    """

    substeps: int = 2
    max_episode_steps: int = 500

    name: ClassVar[str] = "Quadcopter (Isaac Gym semantics)"
    actions: ClassVar[int] = 12
    observations: ClassVar[int] = 21

    def start(self, sim: Simulation) -> Memory:
        return {}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        tilts, thrusts = sim.bind("ctrl").split(JOINTS, 1)
        tilts.add_(STEP * TILT_RATE * action[:, :JOINTS]).clamp_(-TILT_LIMIT, TILT_LIMIT)
        thrusts.add_(STEP * THRUST_RATE * action[:, JOINTS:]).clamp_(0, THRUST_LIMIT)
        limit_speed(sim.bind("qvel")[:, ANGULAR], MAX_SPIN)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        root = root_of(sim)
        return scaled_obs(root, above(TARGET_HEIGHT, root), sim.bind("qpos")[:, 7:])

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        root = root_of(sim)
        reward, log = hover_reward(root, above(TARGET_HEIGHT, root))
        return reward, (log["distance"] > 3) | (root.position[:, 2] < 0.3), log

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        qpos = sim.bind("qpos")
        write_rows(qpos[:, :2], rows, draw.uniform(rows, -1.5, 1.5, 2))
        write_rows(qpos[:, 2:3], rows, TARGET_HEIGHT + draw.uniform(rows, -0.2, 1.5, 1))
        angles = draw.uniform(rows, -0.2, 0.2, JOINTS)
        write_rows(qpos[:, 7:], rows, angles)
        write_rows(sim.bind("ctrl")[:, :JOINTS], rows, angles)

    def mjcf(self) -> str:
        stiffness, arms = 1000, range(4)
        drives = "".join(
            f'<position joint="{joint}{arm}" kp="{stiffness}" kv="{stiffness * TIMESTEP}"/>'
            for arm in arms
            for joint in ("pitch", "roll")
        )
        body = '<geom type="cylinder" size="0.1 0.015" density="50" material="body"/>'
        return aircraft(
            body + "".join(_arm(number, 45 + 90 * number) for number in arms),
            drives + thrusts(("0 0 1",), 4),
            ("0 -0.75 0.4", "1 0 0 0 0.47 0.88"),
            start=TARGET_HEIGHT,
            target=TARGET_HEIGHT,
            defaults=f'<joint range="{-TILT_LIMIT} {TILT_LIMIT}"/>',
            timestep=TIMESTEP,
            iterations=5,
            angle="radian",
        )


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
          <geom type="cylinder" size="0.04 0.005" density="1000" material="limb"/>
          <site name="rotor{number}"/>
        </body>
      </body>"""
