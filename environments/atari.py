"""Atari games, from their screens and from the console's memory. `pip install ".[atari]"` brings games and emulator."""

from __future__ import annotations

from typing import Any

from ppo_and_friends.config import BodyConfig, EvaluationConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import linear

GAMES = PPOConfig(
    lr=linear(2.5e-4, 0.0),
    clip_range=linear(0.1, 0.0),
    steps_total=1024,
    epochs=4,
    minibatches=4,
    entropy_weight=linear(0.01, 0.0),
    reward_clip=(-1.0, 1.0),
    normalize_observations=False,
    normalize_rewards=False,
    max_grad_norm=0.5,
)
"""OpenAI's settings (arXiv:1707.06347, as rl-baselines3-zoo has them), rewards to their signs:
16 games x 64 steps, as many samples as its 8 x 128. The entropy bonus falls to 0 with the step size: with a constant
one Pong's policy stayed close to random (entropy 1.55 of 1.79)."""
SAMPLED = EvaluationConfig(sample=True)
"""A policy that always does the same may wait for ever for a ball that it must serve itself."""


def screens() -> NetConfig:
    """Mnih et al.'s three convolutions and 512 units (Nature 518, 529), shared by actor and critic."""
    return NetConfig(actor=BodyConfig(hidden=(512,), activation="relu"), shared=True)


@experiment("BreakoutPixels")
def breakout_pixels() -> Experiment:
    """Break a wall with a ball, seen on the last four screens.

    One seed scored 394.1 in 100 test episodes of sampled actions after 8.8 M steps, 29 minutes with 32 rows on an H200
    and eight cores, where it was ended; 408.7 in its last 100 episodes of training.
    """
    from ppo_and_friends.vector.atari import AtariEnv

    return _game(AtariEnv(game="breakout"), screens())


@experiment("PongPixels")
def pong_pixels() -> Experiment:
    """Table tennis to 21 points, seen on the last four screens.

    One seed scored 18.8 in 100 test episodes of sampled actions after a run of 6 M steps, 21 minutes with 32 rows on
    an H200 and six cores.
    """
    from ppo_and_friends.vector.atari import AtariEnv

    return _game(AtariEnv(game="pong"), screens())


@experiment("BreakoutRAM")
def breakout_ram() -> Experiment:
    """Break a wall with a ball, known by the console's memory after four decisions. Not scored yet."""
    from environments.atari_ram import RamGame
    from ppo_and_friends.vector.gym_vec import GymEnv

    body = BodyConfig(hidden=(256, 256), activation="relu")
    env = GymEnv(id="Breakout (memory)", kwargs={"game": "breakout"}, factory=RamGame)
    return _game(env, NetConfig(actor=body, critic=body))


def _game(env: Any, net: NetConfig) -> Experiment:
    return Experiment(env=env, num_timesteps=10_000_000, envs_per_proc=16, ppo=GAMES, net=net, evaluation=SAMPLED)
