"""Settings of MuJoCo's locomotion tasks for runs whose thousands of worlds one GPU simulates.

The tasks and their rewards are those of mujoco.py. Isaac Gym's recipe (arXiv:2108.10470) for many worlds: short
rollouts, few and large minibatches, a step size that follows the KL divergence; with this project's normalisers. The
two pendulums and Swimmer have none of their own: they are solved in minutes on a CPU. Nor has Hopper: with five
settings for 2048 rows it lost its gait or found none, on two seeds of three with the best (docs/environments.md).
Returns while training on an H200: Ant 6884 and 6750 after 30 M steps (170 and 182 s), HalfCheetah 10 165 and 10 508
after 40 M (57 s), Walker2d 4196 and 5666 after 30 M (115 and 117 s), Humanoid 8394 after 20 M (147 s), HumanoidStandup
156 353 after 20 M (165 s).
"""

from __future__ import annotations

from dataclasses import replace

from environments.settings import ADAPTIVE, ADAPTIVE_NET, many_worlds
from ppo_and_friends.config import Experiment
from ppo_and_friends.registry import on_gpu

MANY_WORLDS = replace(ADAPTIVE, steps_per_row=16)
ROWS = 2048


@on_gpu("Ant")
def ant() -> Experiment:
    """Ant in 2048 worlds."""
    from environments.tasks.ant import Ant

    return many_worlds(Ant(), 100_000_000, ROWS, MANY_WORLDS, ADAPTIVE_NET)


@on_gpu("HalfCheetah")
def half_cheetah() -> Experiment:
    """HalfCheetah in 2048 worlds."""
    from environments.tasks.half_cheetah import HalfCheetah

    return many_worlds(HalfCheetah(), 100_000_000, ROWS, MANY_WORLDS, ADAPTIVE_NET)


@on_gpu("Walker2d")
def walker2d() -> Experiment:
    """Walker2d in 2048 worlds."""
    from environments.tasks.walker2d import Walker2d

    return many_worlds(Walker2d(), 100_000_000, ROWS, MANY_WORLDS, ADAPTIVE_NET)


@on_gpu("Humanoid")
def humanoid() -> Experiment:
    """Humanoid in 2048 worlds."""
    from environments.tasks.humanoid import Humanoid

    return many_worlds(Humanoid(), 100_000_000, ROWS, MANY_WORLDS, ADAPTIVE_NET)


@on_gpu("HumanoidStandup")
def humanoid_standup() -> Experiment:
    """HumanoidStandup in 2048 worlds."""
    from environments.tasks.humanoid_standup import HumanoidStandup

    return many_worlds(HumanoidStandup(), 50_000_000, ROWS, MANY_WORLDS, ADAPTIVE_NET)
