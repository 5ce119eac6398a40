"""IsaacShadowHand: turn a cube in the Shadow Dexterous Hand (Isaac Gym's ShadowHand; OpenAI, arXiv:1808.00177)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from environments.tasks import isaac_hand_parts as parts
from environments.tasks.isaac_hand import HandTask, Layouts
from environments.tasks.isaac_hand_parts import Hand
from environments.tasks.isaac_model import compile_model
from environments.tasks.isaac_shadow_hand_model import ACTUATED, RANGES, TIPS, mjcf

CUBE_START = (0.0, -0.39, 0.6)
_STATE = (parts.joints, parts.joint_velocities)
_CUBE_AND_GOAL = (parts.cube, parts.cube_velocity, parts.goal, parts.to_goal)


@dataclass(frozen=True)
class IsaacShadowHand(HandTask):
    """24 joints, 20 of them driven; a cube of 5 cm. See `HandTask` for the reward.

    Columns: openai 42, full_no_vel 77, full 157, full_state 211.
    """

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

    def model(self) -> Any:
        return compile_model(mjcf(CUBE_START))


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
