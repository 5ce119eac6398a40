"""MJCF text to a compiled model, and the parts of a scene that every Isaac task shows."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from ppo_and_friends.errors import UserError

SCENERY = """
  <visual>
    <headlight ambient="0.4 0.4 0.4" diffuse="0.5 0.5 0.5"/>
    <map znear="0.02"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.75 0.85 0.95" rgb2="1 1 1" width="32" height="192"/>
    <texture name="grid" type="2d" builtin="checker" rgb1="0.85 0.87 0.9" rgb2="0.72 0.75 0.8" width="64" height="64"/>
    <material name="grid" texture="grid" texrepeat="8 8" texuniform="false"/>
  </asset>
"""

FLOOR = """
    <light pos="0 0 6" dir="0.2 0.3 -1" directional="true" castshadow="false" diffuse="0.5 0.5 0.5"/>
    <geom name="floor" type="plane" size="8 8 0.1" material="grid" rgba="1 1 1 1" contype="0" conaffinity="0"/>
"""


@cache
def compile_model(xml: str) -> Any:
    """The `mujoco.MjModel` of a model written out in MJCF; the same object for the same text.

    Raises:
        UserError: mujoco is not installed.
    """
    try:
        mujoco: Any = import_module("mujoco")
    except ImportError as error:
        raise UserError("MuJoCo tasks need the package mujoco; install it with: pip install mujoco.") from error
    return mujoco.MjModel.from_xml_string(xml)
