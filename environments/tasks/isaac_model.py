"""MJCF text to a compiled model, and the parts of a scene that every Isaac task shows."""

from __future__ import annotations

from functools import cache
from typing import Any

from environments.tasks.common import mujoco_module

# Defaults of every actuator, so not where there are position drives, whose targets they would clamp; and of every geom:
# nothing collides, the floor neither.
MOTORS = '<motor ctrlrange="-1 1"/>'
AIRY = '<geom contype="0" conaffinity="0"/>'


@cache
def compile_model(mjcf: str) -> Any:
    """The `mujoco.MjModel` of a model given as text; the same object for the same text.

    Raises:
        UserError: mujoco is not installed, or MUJOCO_GL names no way to draw.
    """
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
    angle: str = "degree",
) -> str:
    """A robot on a floor, with materials and the solver's options.

    Newton's method with few iterations: a step then costs the same for every row, which is what a GPU wants, and a
    solution a little short of the optimum leaves the returns as they are. The integrator "discrete" solves contacts and
    closed loops together with stiff drives, as PhysX does; with the others these would blow up."""
    return f"""
<mujoco>
  <compiler angle="{angle}" autolimits="true"/>
  <option timestep="{timestep}" integrator="{integrator}" solver="Newton" iterations="{iterations}"
    ls_iterations="{2 * iterations}" cone="pyramidal"/>
  <visual><headlight ambient=".4 .4 .4"/></visual>
  <default>
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
