"""Gymnasium's Box2D tasks: landing and walking."""

from __future__ import annotations

from ppo_and_friends.config import BodyConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import constant, linear


@experiment("LunarLander")
def lunar_lander() -> Experiment:
    """Land between two flags with three engines; 200 counts as solved.

    Settings: rl-baselines3-zoo (16 rows, gamma 0.999, lambda 0.98, entropy weight 0.01), with 512 steps a row, 10
    epochs, minibatches of 128 and a step size that falls. Three seeds scored 280 +- 4 in 100 test episodes after a
    million steps, in 3 minutes on one core.
    """
    return _lander(continuous=False)


@experiment("LunarLanderContinuous")
def lunar_lander_continuous() -> Experiment:
    """Land between two flags with throttled engines; 200 counts as solved.

    Settings: as LunarLander's (rl-baselines3-zoo). Three seeds scored 280 +- 2 in 100 test episodes after a million
    steps, in 3 minutes on one core.
    """
    return _lander(continuous=True)


def _lander(continuous: bool) -> Experiment:
    from ppo_and_friends.vector.gym_vec import GymEnv

    body = BodyConfig(hidden=(64, 64))
    return Experiment(
        env=GymEnv(id="LunarLander-v3", kwargs={"continuous": True} if continuous else {}),
        num_timesteps=1_000_000,
        envs_per_proc=16,
        ppo=PPOConfig(
            lr=linear(3e-4, 1e-5),
            gamma=0.999,
            gae_lambda=0.98,
            epochs=10,
            minibatches=64,
            steps_total=8192,
            entropy_weight=constant(0.01),
        ),
        net=NetConfig(actor=body, critic=body),
    )


@experiment("BipedalWalker")
def bipedal_walker() -> Experiment:
    """Walk over rough ground on two legs; 300 counts as solved.

    Settings: rl-baselines3-zoo (32 rows x 2048 steps, gamma 0.999, clip 0.18), with larger minibatches and a step
    size that falls.
    """
    from ppo_and_friends.vector.gym_vec import GymEnv

    body = BodyConfig(hidden=(128, 128))
    return Experiment(
        env=GymEnv(id="BipedalWalker-v3"),
        num_timesteps=5_000_000,
        envs_per_proc=32,
        ppo=PPOConfig(
            lr=linear(3e-4, 3e-5),
            clip_range=constant(0.18),
            gamma=0.999,
            minibatches=64,
            steps_total=16_384,
        ),
        net=NetConfig(actor=body, critic=body),
    )


@experiment("BipedalWalkerHardcore")
def bipedal_walker_hardcore() -> Experiment:
    """Walk over ladders, stumps and pits on two legs; 300 counts as solved, and takes hours.

    Settings: rl-baselines3-zoo (16 rows x 2048 steps, entropy weight 0.001, step size and clip annealed, 100 million
    steps); rewards below -1, the price of a fall, are cut while training as in this project's predecessor.
    """
    from ppo_and_friends.vector.gym_vec import GymEnv

    body = BodyConfig(hidden=(256, 256))
    return Experiment(
        env=GymEnv(id="BipedalWalker-v3", kwargs={"hardcore": True}),
        num_timesteps=100_000_000,
        envs_per_proc=16,
        ppo=PPOConfig(
            lr=linear(2.5e-4, 1e-5),
            clip_range=linear(0.2, 0.05),
            minibatches=64,
            steps_total=32_768,
            entropy_weight=constant(0.001),
            reward_clip=(-1.0, 10.0),
        ),
        net=NetConfig(actor=body, critic=body),
    )
