"""Isaac Gym itself behind a launcher's settings: python main.py -e examples/isaac_gym.py:Ant --env.python PATH.

docs/isaacgym.md says what PATH is.
"""

from __future__ import annotations

from dataclasses import replace

from ppo_and_friends import registry
from ppo_and_friends.config import EvaluationConfig, Experiment
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv


def Ant() -> Experiment:
    # one simulation a GPU: evaluate by a test of its own
    return replace(registry.build("IsaacAnt"), env=IsaacGymEnv("Ant"), evaluation=EvaluationConfig(every=0))
