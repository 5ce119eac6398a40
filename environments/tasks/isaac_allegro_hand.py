"""IsaacAllegroHand: turn a cube in the Allegro Hand (Isaac Gym's AllegroHand)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from environments.tasks import isaac_hand_parts as parts
from environments.tasks.isaac_hand import HandTask, Layouts
from environments.tasks.isaac_hand_model import contacts, cube_body, drive, hand_scene, joint
from environments.tasks.isaac_hand_parts import Hand

CUBE_START = (0.0, -0.2, 0.56)
FINGERS = {  # place on the palm, and the rotation by which the outer fingers spread
    "index": ("0 0.0435 -0.001542", "0.999048 -0.043619 0 0"),
    "middle": ("0 0 0.0007", "1 0 0 0"),
    "ring": ("0 -0.0435 -0.001542", "0.999048 0.043619 0 0"),
}
CURL = (-0.2792, 1.7278)  # radians
FINGER_RANGES = ((-0.5585, 0.5585), CURL, CURL, CURL)
THUMB_RANGES = ((0.2792, 1.5708), (-0.3316, 1.1519), CURL, (-0.2792, 1.7627))
NAMES = (*FINGERS, "thumb")

_POSES = (parts.cube, parts.goal, parts.to_goal)
_CUBE_AND_GOAL = (parts.cube, parts.cube_velocity, parts.goal, parts.to_goal)


@dataclass(frozen=True)
class IsaacAllegroHand(HandTask):
    """16 joints, all driven, at 30 Hz; a cube of 6.5 cm. See `HandTask` for the reward.

    Columns: full_no_vel 50, full 72, full_state 88. Joint forces are measured here; Isaac Gym's class leaves its
    sensors off, so they are probably zeros there. No friction in the joints.
    """

    observation: Literal["full_state", "full", "full_no_vel"] = "full_state"
    substeps: int = 4

    actions: ClassVar[int] = 16
    name: ClassVar[str] = "AllegroHand (Isaac Gym semantics)"
    hand: ClassVar[Hand] = Hand(
        ranges=FINGER_RANGES * len(FINGERS) + THUMB_RANGES,
        actuated=tuple(range(16)),
        tips=0,
        cube_start=CUBE_START,
    )
    layouts: ClassVar[Layouts] = {
        "full_state": (
            parts.joints,
            parts.joint_velocities,
            parts.joint_forces,
            *_CUBE_AND_GOAL,
            parts.action,
        ),
        "full": (parts.joints, parts.joint_velocities, *_CUBE_AND_GOAL, parts.action),
        "full_no_vel": (parts.joints, *_POSES, parts.action),
    }

    def mjcf(self) -> str:
        """Places, lengths and masses are those of Wonik's description of the hand; fingers are capsules, whose inertia
        is that of their shape. Ranges, gains and the pose of the palm are Isaac Gym's: palm up, fingers towards -y. The
        drives' damping acts beyond their limit of effort too, which keeps joints below 5 rad/s: MuJoCo has no limit of
        speed (Isaac Gym's asset has 7 rad/s), and without any the fingers throw the cube away within five steps."""
        fingers = "".join(_finger(name, place, turn) for name, (place, turn) in FINGERS.items())
        hand = f"""
    <body pos="-0.01162 -0.13307 0.48489" quat="0.475892 0.522998 -0.522998 0.475892" childclass="hand">
      <geom name="palm" type="box" pos="-0.0093 0 -0.0475" size="0.0204 0.0565 0.0475"/>
      {fingers}
      {_thumb()}
    </body>"""
        others = [f"{finger}{part}" for finger in FINGERS for part in ("proximal", "middle", "distal")]
        return hand_scene(
            hand + cube_body(0.0325, 400, CUBE_START),
            'pos="0.28 -0.62 0.9" xyaxes="0.43 0.28 0 -0.1036 0.159 0.263"',
            "".join(drive(f"{name}{number}", 3, 0.5) for name in NAMES for number in range(4)),
            contacts(tuple(FINGERS), ("middle", "distal"), (*others, "palm"), "thumbdistal"),
        )


def _joint(name: str, number: int, axis: str) -> str:
    return joint(f"{name}{number}", axis, (THUMB_RANGES if name == "thumb" else FINGER_RANGES)[number])


def _link(name: str, length: float, mass: float, radius: float = 0.0115, kind: str = "picture") -> str:
    return (
        f'<geom name="{name}" class="{kind}" type="capsule" fromto="0 0 0 0 0 {length}" size="{radius}" mass="{mass}"/>'
    )


def _finger(name: str, place: str, turn: str) -> str:
    """The first joint turns about the finger's own length, the others curl it."""
    return f"""
      <body pos="{place}" quat="{turn}" gravcomp="1">
        {_joint(name, 0, "0 0 1")}{_link(f"{name}base", 0.0164, 0.0119)}
        <body pos="0 0 0.0164" gravcomp="1">
          {_joint(name, 1, "0 1 0")}{_link(f"{name}proximal", 0.054, 0.065, kind="hand")}
          <body pos="0 0 0.054" gravcomp="1">
            {_joint(name, 2, "0 1 0")}{_link(f"{name}middle", 0.0384, 0.0355, kind="hand")}
            <body pos="0 0 0.0384" gravcomp="1">
              {_joint(name, 3, "0 1 0")}{_link(f"{name}distal", 0.0267, 0.0264, 0.012, "tip")}
            </body>
          </body>
        </body>
      </body>"""


def _thumb() -> str:
    return f"""
      <body pos="-0.0182 0.019333 -0.045987" quat="0.477714 -0.521334 -0.521334 -0.477714" gravcomp="1">
        {_joint("thumb", 0, "-1 0 0")}
        <geom class="picture" type="box" pos="-0.0179 0.009 0.0145" size="0.0179 0.017 0.02275" mass="0.0176"/>
        <body pos="-0.027 0.005 0.0399" gravcomp="1">
          {_joint("thumb", 1, "0 0 1")}{_link("thumbbase", 0.0177, 0.0119)}
          <body pos="0 0 0.0177" gravcomp="1">
            {_joint("thumb", 2, "0 1 0")}{_link("thumbproximal", 0.0514, 0.038, kind="hand")}
            <body pos="0 0 0.0514" gravcomp="1">
              {_joint("thumb", 3, "0 1 0")}{_link("thumbdistal", 0.0423, 0.0556, 0.012, "tip")}
            </body>
          </body>
        </body>
      </body>"""
