"""Walker2d: walk forward on two legs. Erez, Tassa and Todorov (2011), as Gymnasium's Walker2d-v5 has it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from environments.tasks.hopper import Hopper
from ppo_and_friends.types import Mirror

SWAPPED = (3, 4, 5, 0, 1, 2)  # the joints of the right leg come first
SEEN = (0, 1, *(2 + leg for leg in SWAPPED), 8, 9, 10, *(11 + leg for leg in SWAPPED))


@dataclass(frozen=True)
class Walker2d(Hopper):
    """The reward and the end of `Hopper` on another body, with no bounds on the other coordinates."""

    xml_file: str = "walker2d_v5.xml"
    healthy_state_range: tuple[float, float] = (-inf, inf)
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)

    name: ClassVar[str] = "Walker2d (Gymnasium v5 semantics)"
    mirror: ClassVar[Mirror] = Mirror(SEEN, (1.0,) * 17, SWAPPED, (1.0,) * 6)
    """The legs exchanged: the walker moves in a plane, so left and right differ in nothing else."""
