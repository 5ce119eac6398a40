"""What the models of the hands share, in MJCF: the world, the cube, and which parts of a hand may meet."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from environments.tasks.isaac_model import AIRY, scene

TIMESTEP = 1 / 120
DEFAULTS = f"""
    {AIRY}
    <default class="hand">
      <geom type="capsule" contype="1" material="limb"/>
      <joint armature="0.001" damping="0.1"/>
      <default class="tip"><geom material="body"/></default>
    </default>"""


def hand_scene(hand: str, camera: str, drives: str, contacts: str, sensors: str = "", extra: str = "") -> str:
    """MJCF of a hand, whose body has the childclass "hand", and a cube. The parts of the hand meet the cube, not each
    other, but for `contacts`."""
    return scene(
        f'<camera name="track" {camera} fovy="40"/>{hand}',
        drives,
        sensors,
        DEFAULTS,
        f"<contact>{contacts}</contact>{extra}",
        timestep=TIMESTEP,
        iterations=10,
        angle="radian",
    )


def joint(name: str, axis: str, limits: tuple[float, float], extra: str = "") -> str:
    """MJCF of a hinge with limits in radians."""
    low, high = limits
    return f'<joint name="{name}" axis="{axis}" range="{low} {high}"{extra}/>'


def drive(name: str, stiffness: float, force: float) -> str:
    """MJCF of an actuator that moves a joint to a target within its limits."""
    return f'<position joint="{name}" kp="{stiffness}" inheritrange="1" forcerange="{-force} {force}"/>'


def contacts(fingers: tuple[str, ...], parts: tuple[str, ...], thumb: Iterable[str], tip: str) -> str:
    """MJCF of pairs that may meet, without friction: `parts` of neighbouring fingers, and the thumb's `tip` with those
    named in `thumb`."""
    pairs = [(f"{finger}{part}", f"{neighbour}{part}") for finger, neighbour in pairwise(fingers) for part in parts]
    pairs += [(tip, other) for other in thumb]
    return "".join(f'<pair geom1="{first}" geom2="{second}" condim="1"/>' for first, second in pairs)


def cube_body(half: float, density: float, place: tuple[float, float, float]) -> str:
    """MJCF of the free cube, with a mark of its own on each face."""
    colours = ("0.85 0.2 0.2", "0.2 0.35 0.85", "0.2 0.65 0.3", "0.95 0.75 0.1", "0.95 0.95 0.95", "0.55 0.25 0.65")
    marks = ""
    for number, colour in enumerate(colours):
        axis, side = number // 2, 1 - 2 * (number % 2)
        at, size = [0.0] * 3, [0.8 * half] * 3
        at[axis], size[axis] = side * half, 0.0003
        marks += f'<geom class="picture" type="box" pos="{_text(at)}" size="{_text(size)}" rgba="{colour} 1"/>'
    return f"""
    <body name="cube" pos="{_text(place)}">
      <freejoint/>
      <geom type="box" size="{half} {half} {half}" density="{density}" contype="1" conaffinity="1"
        rgba="0.2 0.2 0.22 1"/>
      {marks}
    </body>"""


def _text(numbers: tuple[float, ...] | list[float]) -> str:
    return " ".join(str(number) for number in numbers)
