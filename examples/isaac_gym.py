"""A task of Isaac Gym that has no launcher here, with rl_games' settings for it:

    python main.py -e examples/isaac_gym.py:FrankaCabinet --env.python ~/ig/bin/python

Those that have one need no file: python main.py -e IsaacAnt --simulator isaacgym. docs/isaacgym.md says the rest.
"""

from __future__ import annotations

from dataclasses import replace

from ppo_and_friends import registry
from ppo_and_friends.config import Experiment
from ppo_and_friends.schedules import constant
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv


def FrankaCabinet() -> Experiment:
    """Open a drawer with an arm."""
    ant = registry.build("IsaacAnt")  # the same network, and most of the settings
    ppo = replace(ant.ppo, lr=constant(5e-4), minibatches=8, epochs=8, value_weight=4.0, max_grad_norm=1.0)
    return replace(ant, env=IsaacGymEnv("FrankaCabinet"), num_timesteps=98_304_000, ppo=ppo)
