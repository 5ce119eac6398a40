"""IsaacAnymal: a four-legged robot follows commanded velocities on flat ground. IsaacGymEnvs' Anymal."""

from __future__ import annotations

from dataclasses import dataclass
from math import degrees
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_common import FREE, FREE_SPEEDS, RobotTask, clipped_obs
from environments.tasks.isaac_model import eye, scene
from environments.tasks.isaac_rotations import rotate, rotate_inverse
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant, write_rows

SECONDS = 0.02  # of simulated time for one action
# signs of x and y of each leg, and its default joint angles: hip sideways, hip forward, knee
LEGS = {
    "LF": (1, 1, (0.03, 0.4, -0.8)),
    "LH": (-1, 1, (0.03, -0.4, 0.8)),
    "RF": (1, -1, (-0.03, 0.4, -0.8)),
    "RH": (-1, -1, (-0.03, -0.4, 0.8)),
}
DEFAULT = tuple(angle for _, _, angles in LEGS.values() for angle in angles)
TOUCHY = ("base", *(f"{leg}_THIGH" for leg in LEGS))  # bodies that must not touch the ground
LARGEST_TOUCH = 1.0  # newtons


@dataclass(frozen=True)
class IsaacAnymal(RobotTask):
    """Reward = linear + angular - torque, at least 0, each times the 0.02 s of a step.

    linear    linear_weight * exp(-|commanded - actual horizontal velocity|^2 / 0.25)
    angular   angular_weight * exp(-(commanded - actual yaw rate)^2 / 0.25)
    torque    torque_weight * sum of squared torques

    An action moves the targets of the joints' position drives by up to action_scale radians from the default angles.
    Commands are drawn at a reset and kept. Terminates where the base or a thigh touches the ground with more than 1 N.

    The observed direction of gravity is turned by the base's rotation where its inverse would be right: the original's
    own slip, kept because its published scores are those of what it shows. Masses, inertias and lengths are ANYmal C's;
    its shapes are capsules.
    """

    substeps: int = 2
    max_episode_steps: int = 2500
    action_scale: float = 0.5
    linear_weight: float = 1.0
    angular_weight: float = 0.5
    torque_weight: float = 2.5e-5
    largest_command: tuple[float, float, float] = (2.0, 1.0, 1.0)
    joint_noise: tuple[float, float] = (0.5, 1.5)
    velocity_noise: float = 0.1
    start_height: float = 0.62

    name: ClassVar[str] = "Anymal (Isaac Gym semantics)"
    actions: ClassVar[int] = 12
    observations: ClassVar[int] = 48
    linear_scale: ClassVar[float] = 2.0
    spin_scale: ClassVar[float] = 0.25
    speed_scale: ClassVar[float] = 0.05

    def start(self, sim: Simulation) -> Memory:
        sim.bind("sensordata")
        sim.bind("qfrc_actuator")
        return super().start(sim) | {"command": torch.zeros(sim.rows, 3, device=sim.device, dtype=sim.dtype)}

    def controls(self, sim: Simulation, action: Tensor) -> Tensor:
        return self.action_scale * action + constant(DEFAULT, sim)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
        quaternion = qpos[:, 3:FREE]
        down = constant((0.0, 0.0, -1.0), sim).expand(sim.rows, -1)
        command_scale = constant((self.linear_scale, self.linear_scale, self.spin_scale), sim)
        return clipped_obs(
            (
                self.linear_scale * rotate_inverse(quaternion, qvel[:, :3]),
                self.spin_scale * qvel[:, 3:FREE_SPEEDS],
                rotate(quaternion, down),
                command_scale * memory["command"],
                qpos[:, FREE:] - constant(DEFAULT, sim),
                self.speed_scale * qvel[:, FREE_SPEEDS:],
                memory["action"],
            )
        )

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        qvel, command = sim.bind("qvel"), memory["command"]
        velocity = rotate_inverse(sim.bind("qpos")[:, 3:FREE], qvel[:, :3])
        missed = (command[:, :2] - velocity[:, :2]).square().sum(1)
        missed_yaw = (command[:, 2] - qvel[:, 5]).square()
        torques = sim.bind("qfrc_actuator")[:, FREE_SPEEDS:]
        terms = {
            "reward_linear": SECONDS * self.linear_weight * torch.exp(-missed / 0.25),
            "reward_angular": SECONDS * self.angular_weight * torch.exp(-missed_yaw / 0.25),
            "reward_torque": -SECONDS * self.torque_weight * torques.square().sum(1),
        }
        touches = sim.bind("sensordata").unflatten(1, (len(TOUCHY), 3)).square().sum(2)
        fallen = (touches > LARGEST_TOUCH**2).any(1)
        return torch.stack(tuple(terms.values())).sum(0).clamp_min(0.0), fallen, terms

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        """The base is as the engine's reset left it: upright, at rest, at start_height."""
        angles = constant(DEFAULT, sim) * draw.uniform(rows, *self.joint_noise, self.actions)
        speeds = draw.uniform(rows, -self.velocity_noise, self.velocity_noise, self.actions)
        command = constant(self.largest_command, sim) * draw.uniform(rows, -1.0, 1.0, 3)
        write_rows(sim.bind("qpos")[:, FREE:], rows, angles)
        write_rows(sim.bind("qvel")[:, FREE_SPEEDS:], rows, speeds)
        write_rows(memory["command"], rows, command)
        self.forget(memory, rows)

    def mjcf(self) -> str:
        robot = f"""
    <body name="base" pos="0 0 {self.start_height}" childclass="anymal">
      {eye("1 -1.8 .5", ".88 .48 0 -.12 .22 .97")}
      <freejoint/>
      <inertial pos="-.017794 -.000178 .008504" mass="26.37317"
        fullinertia=".215655 1.784105 1.835813 .008224 .057933 -.001164"/>
      <geom fromto="-.4345 .07 0 .4345 .07 0" size=".09"/>
      <geom fromto="-.4345 -.07 0 .4345 -.07 0" size=".09"/>
      <geom type="box" size=".46 .07 .085" class="picture" material="body"/>
      <geom type="cylinder" size=".07 .06" pos="-.364 0 .1335" class="picture" material="limb"/>
      {"".join(_leg(name, x, y) for name, (x, y, _) in LEGS.items())}
    </body>"""
        # the robot meets the floor only: its own parts pass through each other
        defaults = """
    <default class="anymal"><geom type="capsule" contype="0" material="body"/></default>
    <position kp="85" kv="2" forcerange="-80 80"/>"""
        joints = (f"{leg}_{joint}" for leg in LEGS for joint in ("HAA", "HFE", "KFE"))
        drives = "".join(f'<position joint="{joint}"/>' for joint in joints)
        sensors = "".join(f'<contact body1="{body}" data="force" reduce="netforce"/>' for body in TOUCHY)
        return scene(robot, drives, sensors, defaults, timestep=0.01, integrator="discrete")


def _leg(name: str, x: int, y: int) -> str:
    """One leg; the four are mirror images. All axes are the base's while every angle is 0."""
    outwards, inwards = degrees(0.49), degrees(0.72)
    sideways = f"{-inwards} {outwards}" if y > 0 else f"{-outwards} {inwards}"

    def inertial(mass: float, centre: tuple[float, ...], moments: tuple[float, ...]) -> str:
        (cx, cy, cz), (xx, yy, zz, xy, xz, yz) = centre, moments
        return (
            f'<inertial mass="{mass}" pos="{x * cx} {y * cy} {cz}" '
            f'fullinertia="{xx} {yy} {zz} {x * y * xy} {x * xz} {y * yz}"/>'
        )

    hip = inertial(2.781, (0.0567, 0.017394, -0.000461), (0.003296, 0.004938, 0.005833, -4.5e-5, -9.8e-5, 1.36e-4))
    thigh = inertial(3.071, (0.0, 0.030815, -0.245696), (0.029904, 0.029564, 0.004861, -4.4e-5, -9.4e-5, 0.004142))
    shank = inertial(0.58842, (0.061253, 0.005462, -0.08066), (0.00881, 0.010161, 0.00155, 5.4e-5, 0.001819, -2.3e-5))
    return f"""
      <body name="{name}_HIP" pos="{0.2999 * x} {0.104 * y} 0">
        <joint name="{name}_HAA" axis="1 0 0" range="{sideways}"/>
        {hip}
        <geom type="cylinder" fromto="{0.0599 * x} {-0.03 * y} 0 {0.0599 * x} {0.08 * y} 0" size=".05" class="picture"
          material="limb"/>
        <body name="{name}_THIGH" pos="{0.0599 * x} {0.08381 * y} 0">
          <joint name="{name}_HFE" axis="0 1 0"/>
          {thigh}
          <geom fromto="0 {0.03 * y} -.02 0 {0.03 * y} -.2625" size=".0375"/>
          <geom fromto="0 {0.01 * y} -.285 0 {0.0503 * y} -.285" size=".05"/>
          <body name="{name}_SHANK" pos="0 {0.1003 * y} -.285">
            <joint name="{name}_KFE" axis="0 1 0"/>
            {shank}
            <geom type="capsule" fromto="0 {0.02 * y} 0 {0.08795 * x} {0.01305 * y} -.03" size=".02" class="picture"
              material="limb"/>
            <geom fromto="{0.08795 * x} {0.01305 * y} -.03 {0.08795 * x} {0.01305 * y} -.31" size=".0175"
              material="limb"/>
            <geom type="sphere" pos="{0.08795 * x} {0.01305 * y} -.31547" size=".03" material="limb"/>
          </body>
        </body>
      </body>"""
