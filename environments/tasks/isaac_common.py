"""What the tasks of NVIDIA's Isaac Gym (arXiv:2108.10470) have in common: models, actions in [-1, 1], rotations.

Isaac Gym's simulator, PhysX, and its model files cannot be had from a package index. The models are written here from
published dimensions, masses and limits, with primitive shapes, and run on MuJoCo: observations, rewards, ends and
resets are those of IsaacGymEnvs, contacts and joint limits are MuJoCo's. Isaac Gym resets a row one step late, so that
each of its episodes has one transition from the old end to the new start; here there is none.

Quaternions are MuJoCo's: w, x, y, z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from math import inf, pi
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.common import mujoco_module
from ppo_and_friends.types import ActionSpace, Obs, TensorSpec
from ppo_and_friends.vector.sim.simulation import Memory, Simulation

FREE = 7  # coordinates of a free joint, and where the hinges' begin where the first joint is one
FREE_SPEEDS = 6

_constants: dict[tuple[tuple[float, ...], torch.device, torch.dtype], Tensor] = {}


@dataclass(frozen=True)
class IsaacTask:
    """The parts of a `Task` that all of them share.

    substeps            simulator steps for one action
    max_episode_steps   the time limit
    """

    substeps: int
    max_episode_steps: int

    name: ClassVar[str]
    forward_after_reset: ClassVar[bool] = False
    actions: ClassVar[int]
    observations: ClassVar[int]
    observation_clip: ClassVar[float] = 5.0

    def mjcf(self) -> str:
        """The robot and its world."""
        raise NotImplementedError

    def model(self) -> Any:
        return compile_model(self.mjcf())

    @property
    def action(self) -> ActionSpace:
        return ActionSpace("box", low=(-1.0,) * self.actions, high=(1.0,) * self.actions)

    @property
    def actor(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec((self.observations,)),)

    @property
    def critic(self) -> tuple[TensorSpec, ...]:
        return self.actor

    @cached_property
    def joint_limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper limits of the hinges and slides that have some, in radians or metres."""
        model = self.model()
        lower, upper = model.jnt_range[model.jnt_limited.astype(bool)].T.tolist()
        return tuple(lower), tuple(upper)

    def limits(self, sim: Simulation) -> tuple[Tensor, Tensor]:
        """`joint_limits` as two tensors [J]."""
        lower, upper = self.joint_limits
        return constant(lower, sim), constant(upper, sim)

    def start(self, sim: Simulation) -> Memory:
        """action [N, A] is the last one, zero at first; stepped [N, 1] says whether the row has made a step."""
        return {
            "action": torch.zeros(sim.rows, self.actions, device=sim.device, dtype=sim.dtype),
            "stepped": torch.zeros(sim.rows, 1, device=sim.device, dtype=torch.bool),
        }

    def controls(self, sim: Simulation, action: Tensor) -> Tensor:
        """What the actuators are given, `[N, A]`, for an action of the policy `[N, A]`."""
        return action

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        memory["action"].copy_(action)
        memory["stepped"].fill_(True)
        sim.bind("ctrl").copy_(self.controls(sim, memory["action"]))

    def forget(self, memory: Memory, rows: Tensor) -> None:
        """Make the memory of `rows` ([N] bool) that of an episode's start."""
        memory["action"].masked_fill_(rows[:, None], 0.0)
        memory["stepped"].masked_fill_(rows[:, None], False)

    def measured(self, memory: Memory, forces: Tensor) -> Tensor:
        """`forces` ([N, *]) of the last step, and zero before the first one, when none was measured yet."""
        return forces.masked_fill(~memory["stepped"], 0.0)

    def clipped(self, parts: tuple[Tensor, ...]) -> Obs:
        """Join `parts` ([N, *]) into what actor and critic see."""
        observation = torch.cat(parts, 1)
        if self.observation_clip < inf:
            observation = observation.clamp(-self.observation_clip, self.observation_clip)
        return Obs(observation, observation, observation.new_zeros(len(observation), 0, dtype=torch.bool))


@cache
def compile_model(mjcf: str) -> Any:
    """The compiled `mujoco.MjModel` of a model given as text."""
    return mujoco_module().MjModel.from_xml_string(mjcf)


def scene(
    robot: str,
    actuators: str,
    sensors: str = "",
    defaults: str = "",
    extra: str = "",
    *,
    timestep: float,
    integrator: str = "implicitfast",
    iterations: int = 4,
) -> str:
    """A robot on a floor, with materials and the solver's options.

    Newton's method with few iterations: a step then costs the same for every row, which is what a GPU wants, and a
    solution a little short of the optimum leaves the returns as they are. The integrator "discrete" solves contacts and
    closed loops together with stiff drives, as PhysX does; with the others these would blow up."""
    return f"""
<mujoco>
  <compiler angle="degree" autolimits="true"/>
  <option timestep="{timestep}" integrator="{integrator}" solver="Newton" iterations="{iterations}"
    ls_iterations="{2 * iterations}" cone="pyramidal"/>
  <visual><headlight ambient=".4 .4 .4"/></visual>
  <default>
    <motor ctrlrange="-1 1"/>
    <default class="picture"><geom contype="0" conaffinity="0" mass="0"/></default>
    {defaults}
  </default>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1=".55 .68 .82" rgb2=".9 .93 .96" width="64" height="384"/>
    <texture name="tiles" type="2d" builtin="checker" rgb1=".34 .38 .42" rgb2=".42 .46 .5" width="256" height="256"/>
    <material name="floor" texture="tiles" texrepeat="1 1" texuniform="true"/>
    <material name="body" rgba=".93 .55 .2 1"/>
    <material name="limb" rgba=".25 .3 .4 1"/>
  </asset>
  <worldbody>
    <light directional="true" pos="0 0 4" dir=".3 .2 -1" diffuse=".3 .3 .3" castshadow="false"/>
    <geom name="floor" type="plane" size="0 0 .25" material="floor"/>
    {robot}
  </worldbody>
  <actuator>{actuators}</actuator>
  <sensor>{sensors}</sensor>
  {extra}
</mujoco>
"""


def eye(position: str, axes: str) -> str:
    """MJCF of the camera that takes the pictures, and a lamp above, both keeping their distance from their body."""
    return (
        f'<camera name="track" mode="trackcom" pos="{position}" xyaxes="{axes}"/>'
        '<light mode="trackcom" pos="-.5 -1 4" dir=".12 .25 -1" diffuse=".5 .5 .5"/>'
    )


def wrench_sensors(sites: tuple[str, ...]) -> str:
    """MJCF of three forces and three torques at each site, in its frame: with what the body above acts on its own."""
    return "".join(f'<force site="{site}"/><torque site="{site}"/>' for site in sites)


def constant(values: tuple[float, ...], sim: Simulation) -> Tensor:
    """[len(values)] on the simulation's device, made once: nobody may write it."""
    key = (values, sim.device, sim.dtype)
    if key not in _constants:  # a plain dictionary: a compiler looks into it, where it would see past a cache
        _constants[key] = torch.tensor(values, device=sim.device, dtype=sim.dtype)
    return _constants[key]


def write(target: Tensor, rows: Tensor, values: Tensor) -> None:
    """`target[rows] = values[rows]` ([N, *], rows [N] bool) without asking how many rows that is."""
    target.copy_(torch.where(rows[:, None], values, target))


def rotate(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Vectors [N, 3] of a body's frame in the world's; quaternion [N, 4]."""
    w, u = quaternion[:, :1], quaternion[:, 1:]
    twice = 2 * torch.linalg.cross(u, vector)
    return vector + w * twice + torch.linalg.cross(u, twice)


def rotate_inverse(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Vectors [N, 3] of the world's frame in a body's; quaternion [N, 4]."""
    w, u = quaternion[:, :1], quaternion[:, 1:]
    twice = 2 * torch.linalg.cross(u, vector)
    return vector - w * twice + torch.linalg.cross(u, twice)


def forward_axis(quaternion: Tensor) -> tuple[Tensor, Tensor]:
    """x and y [N], in the world, of the body's own x axis."""
    w, x, y, z = quaternion.unbind(1)
    return 1 - 2 * (y * y + z * z), 2 * (x * y + w * z)


def upright(quaternion: Tensor) -> Tensor:
    """z [N], in the world, of the body's own z axis: 1 upright, -1 upside down."""
    _, x, y, _ = quaternion.unbind(1)
    return 1 - 2 * (x * x + y * y)


def roll_yaw(quaternion: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations [N] about x (first) and z (last) of the Euler angles x, y, z, in (-pi, pi]."""
    w, x, y, z = quaternion.unbind(1)
    roll = torch.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    yaw = torch.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, yaw


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + pi, 2 * pi) - pi


def unscale(position: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Joint positions with their limits at -1 and 1."""
    return (2 * position - upper - lower) / (upper - lower)
