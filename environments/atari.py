"""Atari games, from their screens and from the console's memory. `pip install ".[atari]"` brings games and emulator."""

from __future__ import annotations

from ppo_and_friends.config import BodyConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import constant, linear

GAMES = PPOConfig(
    lr=linear(2.5e-4, 0.0),
    clip_range=linear(0.1, 0.0),
    steps_total=1024,
    epochs=4,
    minibatches=4,
    entropy_weight=constant(0.01),
    reward_clip=(-1.0, 1.0),
    normalize_observations=False,
    normalize_rewards=False,
    max_grad_norm=0.5,
)
"""OpenAI's settings (arXiv:1707.06347, as rl-baselines3-zoo has them), rewards to their signs:
16 games x 64 steps, as many samples as its 8 x 128."""


def screens() -> NetConfig:
    """Mnih et al.'s three convolutions and 512 units (Nature 518, 529), shared by actor and critic."""
    return NetConfig(actor=BodyConfig(hidden=(512,), activation="relu"), shared=True)


@experiment("BreakoutPixels")
def breakout_pixels() -> Experiment:
    """Break a wall with a ball, seen on the last four screens.

    Not scored yet: one run had a return of 121 while training, after 3 M of its 10 M steps.
    """
    from ppo_and_friends.vector.atari import AtariEnv

    return Experiment(
        env=AtariEnv(game="breakout"), num_timesteps=10_000_000, envs_per_proc=16, ppo=GAMES, net=screens()
    )


@experiment("PongPixels")
def pong_pixels() -> Experiment:
    """Table tennis to 21 points, seen on the last four screens. Not scored yet."""
    from ppo_and_friends.vector.atari import AtariEnv

    return Experiment(env=AtariEnv(game="pong"), num_timesteps=10_000_000, envs_per_proc=16, ppo=GAMES, net=screens())


@experiment("BreakoutRAM")
def breakout_ram() -> Experiment:
    """Break a wall with a ball, known by the console's memory after four decisions. Not scored yet."""
    from environments.atari_ram import RamGame
    from ppo_and_friends.vector.gym_vec import GymEnv

    body = BodyConfig(hidden=(256, 256), activation="relu")
    return Experiment(
        env=GymEnv(id="Breakout (memory)", kwargs={"game": "breakout"}, factory=RamGame),
        num_timesteps=10_000_000,
        envs_per_proc=16,
        ppo=GAMES,
        net=NetConfig(actor=body, critic=body),
    )
