"""The tasks whose rewards are Gymnasium's."""

from __future__ import annotations

from environments.tasks.ant import Ant
from environments.tasks.half_cheetah import HalfCheetah
from environments.tasks.hopper import Hopper
from environments.tasks.humanoid import Humanoid
from environments.tasks.humanoid_standup import HumanoidStandup
from environments.tasks.inverted_double_pendulum import InvertedDoublePendulum
from environments.tasks.inverted_pendulum import InvertedPendulum
from environments.tasks.swimmer import Swimmer
from environments.tasks.walker2d import Walker2d

TASKS = (
    Ant,
    HalfCheetah,
    Hopper,
    Walker2d,
    Swimmer,
    Humanoid,
    HumanoidStandup,
    InvertedPendulum,
    InvertedDoublePendulum,
)
