"""IsaacShadowHand: turn a cube in the Shadow Dexterous Hand (Isaac Gym's ShadowHand; OpenAI, arXiv:1808.00177)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from environments.tasks import isaac_hand_parts as parts
from environments.tasks.isaac_hand import HandTask, Layouts
from environments.tasks.isaac_hand_model import contacts, cube_body, drive, hand_scene, joint
from environments.tasks.isaac_hand_parts import Hand
from environments.tasks.isaac_model import wrench_sensors

FINGERS = {"ff": (0.033, 0.095), "mf": (0.011, 0.099), "rf": (-0.011, 0.095)}  # x and z of the base, on the palm
TIPS = ("ff", "mf", "rf", "lf", "th")
SPREAD, CURL = (-0.349, 0.349), (0.0, 1.571)  # radians


def _finger_ranges(finger: str) -> dict[str, tuple[float, float]]:
    return {f"{finger}J{number}": CURL if number < 3 else SPREAD for number in (3, 2, 1, 0)}


RANGES = {
    "WRJ1": (-0.489, 0.14),
    "WRJ0": (-0.698, 0.489),
    **_finger_ranges("FF"),
    **_finger_ranges("MF"),
    **_finger_ranges("RF"),
    "LFJ4": (0.0, 0.785),
    **_finger_ranges("LF"),
    "THJ4": (-1.047, 1.047),
    "THJ3": (0.0, 1.222),
    "THJ2": (-0.209, 0.209),
    "THJ1": (-0.524, 0.524),
    "THJ0": (-1.571, 0.0),
}
COUPLED = ("FFJ0", "MFJ0", "RFJ0", "LFJ0")  # each follows J1 of its finger by a tendon
ACTUATED = tuple(joint for joint in RANGES if joint not in COUPLED)
FORCES = {"WRJ1": 4.785, "WRJ0": 2.175, "THJ4": 2.3722, "THJ3": 1.45, "THJ2": 0.99, "THJ1": 0.99, "THJ0": 0.81}  # Nm

CUBE_START = (0.0, -0.39, 0.6)
_STATE = (parts.joints, parts.joint_velocities)
_CUBE_AND_GOAL = (parts.cube, parts.cube_velocity, parts.goal, parts.to_goal)


@dataclass(frozen=True)
class IsaacShadowHand(HandTask):
    """24 joints, 20 of them driven; a cube of 5 cm. See `HandTask` for the reward.

    Columns: openai 42, full_no_vel 77, full 157, full_state 211.
    """

    actions: ClassVar[int] = len(ACTUATED)
    name: ClassVar[str] = "ShadowHand (Isaac Gym semantics)"
    forward_after_reset: ClassVar[bool] = True  # fingertips are derived
    hand: ClassVar[Hand] = Hand(
        ranges=tuple(RANGES.values()),
        actuated=tuple(list(RANGES).index(joint) for joint in ACTUATED),
        tips=len(TIPS),
        cube_start=CUBE_START,
    )
    layouts: ClassVar[Layouts] = {
        "full_state": (*_STATE, parts.joint_forces, *_CUBE_AND_GOAL, parts.tips, parts.tip_forces, parts.action),
        "full": (*_STATE, *_CUBE_AND_GOAL, parts.tips, parts.action),
        "full_no_vel": (parts.joints, parts.cube, parts.goal, parts.to_goal, parts.tip_places, parts.action),
        "openai": (parts.tip_places, parts.cube_place, parts.to_goal, parts.action),
    }

    def mjcf(self) -> str:
        """Joints, ranges, gains, force limits, masses and shapes of collision are those of OpenAI's model of the hand,
        as gymnasium-robotics publishes it. Without its meshes; without friction in the joints, which would be 24
        constraints in every step of every row. As in Isaac Gym the hand feels no gravity and lies palm up, its fingers
        towards -y."""
        couplings = "".join(
            f'<fixed range="-0.001 0.001"><joint joint="{finger}J0" coef="0.00705"/>'
            f'<joint joint="{finger}J1" coef="-0.00805"/></fixed>'
            for finger in ("FF", "MF", "RF", "LF")
        )
        hand = f"""
        <body pos="0 0 0.49" quat="0 0 -0.7071067811865476 0.7071067811865476" childclass="hand">
          <geom class="picture" type="cylinder" pos="0 0 0.11" size="0.045 0.11" material="limb"/>
          {_wrist()}
        </body>"""
        others = (*(f"{finger}distal" for finger in TIPS[:-1]), "ffmiddle", "ffproximal", "mfproximal", "palm")
        return hand_scene(
            hand + cube_body(0.025, 567, CUBE_START),
            'pos="0.25 -0.75 0.85" xyaxes="0.38 0.25 0 -0.08 0.122 0.207"',
            "".join(drive(name, 5 if name.startswith("WR") else 1, _force(name)) for name in ACTUATED),
            contacts(TIPS[:-1], ("proximal", "middle", "distal"), others, "thdistal"),
            _sensors(),
            f"<tendon>{couplings}</tendon>",
        )


def openai_shadow_hand() -> IsaacShadowHand:
    """20 Hz, 8 s for each goal, 50 goals; fingertips and the cube's place for the actor, all of the state for the
    critic.

    Running out of time is an end here and not a cut: it costs half a fall."""
    return IsaacShadowHand(
        observation="openai",
        asymmetric=True,
        success_tolerance=0.4,
        fall_penalty=-50.0,
        max_successes=50.0,
        steps_per_goal=160.0,
        moving_average=0.3,
        push_scale=1.0,
        substeps=6,
        max_episode_steps=50 * 160,
    )


def _force(joint: str) -> float:
    return FORCES.get(joint, 0.7245 if joint.endswith("J1") else 0.9)


def _joint(name: str, axis: str, extra: str = "") -> str:
    return joint(name, axis, RANGES[name], extra)


def _inertial(mass: float, place: str = "0 0 0", moment: float = 1e-5) -> str:
    return f'<inertial pos="{place}" mass="{mass}" diaginertia="{moment} {moment} {moment}"/>'


def _segment(name: str, radius: float, half: float, middle: float) -> str:
    return f'<geom name="{name}" size="{radius} {half}" pos="0 0 {middle}"/>'


def _wrist() -> str:
    stiff = ' damping="0.5" armature="0.005"'
    fingers = "".join(_finger(finger, f"{x} 0 {z}") for finger, (x, z) in FINGERS.items())
    return f"""
      <body pos="0 0 0.256" gravcomp="1">
        {_inertial(0.3, "0.003 0 0.016", 1e-3)}{_joint("WRJ1", "0 1 0", stiff)}
        <geom class="picture" type="capsule" size="0.015 0.01" quat="0.7071 0.7071 0 0"/>
        <body pos="0 0 0.034" gravcomp="1">
          {_inertial(0.3, "0.006 0 0.036", 1e-3)}{_joint("WRJ0", "1 0 0", stiff)}
          <geom name="palm" type="box" pos="0.011 0 0.038" size="0.032 0.0111 0.049"/>
          <geom type="box" pos="-0.032 0 0.014" size="0.011 0.0111 0.025"/>
          {fingers}
          <body pos="-0.017 0 0.044" gravcomp="1">
            {_inertial(0.075, "-0.014 0.001 0.014")}{_joint("LFJ4", "0.571 0 0.821")}
            <geom type="box" pos="-0.0165 0 0.01" size="0.0095 0.0111 0.025"/>
            {_finger("lf", "-0.017 0 0.044")}
          </body>
          {_thumb()}
        </body>
      </body>"""


def _finger(finger: str, place: str) -> str:
    """Four joints: sideways, then three that curl towards the palm's side."""
    name = finger.upper()
    return f"""
          <body pos="{place}" gravcomp="1">
            {_inertial(0.008)}{_joint(f"{name}J3", "0 1 0")}
            <body gravcomp="1">
              {_inertial(0.014, "0 0 0.023")}{_joint(f"{name}J2", "1 0 0")}
              {_segment(f"{finger}proximal", 0.01, 0.0225, 0.0225)}
              <body pos="0 0 0.045" gravcomp="1">
                {_inertial(0.012, "0 0 0.012")}{_joint(f"{name}J1", "1 0 0")}
                {_segment(f"{finger}middle", 0.00805, 0.0125, 0.0125)}
                <body name="{finger}tip" pos="0 0 0.025" gravcomp="1">
                  {_inertial(0.01, "0 0 0.015")}{_joint(f"{name}J0", "1 0 0")}
                  {_segment(f"{finger}distal", 0.00705, 0.012, 0.012)}
                  <site name="{finger}tip"/>
                </body>
              </body>
            </body>
          </body>"""


def _thumb() -> str:
    return f"""
          <body pos="0.034 -0.009 0.029" quat="0.923956 0 0.382499 0" gravcomp="1">
            {_inertial(0.01)}{_joint("THJ4", "0 0 -1")}
            <body gravcomp="1">
              {_inertial(0.016, "0 0 0.017")}{_joint("THJ3", "1 0 0")}
              {_segment("thproximal", 0.013, 0.019, 0.019)}
              <body pos="0 0 0.038" gravcomp="1">
                {_inertial(0.002)}{_joint("THJ2", "1 0 0")}
                <body gravcomp="1">
                  {_inertial(0.016, "0 0 0.016")}{_joint("THJ1", "0 1 0")}
                  {_segment("thmiddle", 0.011, 0.016, 0.016)}
                  <body name="thtip" pos="0 0 0.032" gravcomp="1">
                    {_inertial(0.016, "0 0 0.016")}{_joint("THJ0", "0 1 0")}
                    {_segment("thdistal", 0.00918, 0.013, 0.013)}
                    <site name="thtip"/>
                  </body>
                </body>
              </body>
            </body>
          </body>"""


def _sensors() -> str:
    """The state of each fingertip, then the force and torque at its joint: `isaac_hand_parts` reads them so."""
    states = "".join(
        f'<{kind} objtype="xbody" objname="{tip}tip"/>'
        for tip in TIPS
        for kind in ("framepos", "framequat", "framelinvel", "frameangvel")
    )
    return states + wrench_sensors(tuple(f"{tip}tip" for tip in TIPS))
