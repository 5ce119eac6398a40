"""Gymnasium's Box2D tasks: landing and walking."""

from __future__ import annotations

from dataclasses import replace

from environments.settings import ADAPTIVE, ADAPTIVE_NET, WIDE, net
from ppo_and_friends.config import Experiment, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import constant, linear


@experiment("LunarLander")
def lunar_lander() -> Experiment:
    """Land between two flags with three engines; 200 counts as solved.

    Settings: rl-baselines3-zoo (16 rows, gamma 0.999, lambda 0.98, entropy weight 0.01), with 512 steps a row, 10
    epochs, minibatches of 128 and a step size that falls. Three seeds scored 282 +- 3 in 100 test episodes after a
    million steps, in 2 minutes on one core.
    """
    return _lander(continuous=False)


@experiment("LunarLanderContinuous")
def lunar_lander_continuous() -> Experiment:
    """Land between two flags with throttled engines; 200 counts as solved.

    Settings: as LunarLander's (rl-baselines3-zoo), over half as many steps again. Three seeds scored 283 +- 3 (283,
    286, 279) in 100 test episodes after 1.5 million steps, in 2 minutes on one core; after a million 280 +- 2.
    """
    return _lander(continuous=True)


def _lander(continuous: bool) -> Experiment:
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="LunarLander-v3", kwargs={"continuous": True} if continuous else {}),
        num_timesteps=1_500_000 if continuous else 1_000_000,
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
        net=net(64, 64),
    )


@experiment("BipedalWalker")
def bipedal_walker() -> Experiment:
    """Walk over rough ground on two legs; 300 counts as solved.

    Settings: HalfCheetah's of this project (wide relu network, normalised values, a large step size whose epochs end at
    a KL divergence of 0.03) with 32 rows x 256 steps, 64 minibatches, log-std -0.5, a small entropy bonus and rewards
    cut at -1 while training. Three seeds scored 302 +- 8 (311, 291, 305) in 100 test episodes after five million
    steps, in 20 minutes on one core; without the bonus and the cut 295 +- 17. A few episodes still fall.
    """
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="BipedalWalker-v3"),
        num_timesteps=5_000_000,
        envs_per_proc=32,
        ppo=replace(WIDE, minibatches=64, steps_total=8192, entropy_weight=constant(0.001), reward_clip=(-1.0, 10.0)),
        net=net(256, 256, activation="relu", log_std_init=-0.5),
    )


@experiment("BipedalWalkerHardcore")
def bipedal_walker_hardcore() -> Experiment:
    """Walk over ladders, stumps and pits on two legs; 300 counts as solved.

    Settings: rl_games' idea for EnvPool's MuJoCo (64 rows, few large minibatches, a step size that follows the KL
    divergence, elu); rewards below -1, the price of a fall, are cut while training as in this project's predecessor.
    One seed scored 134 +- 150 in 100 test episodes after six million steps, in 19 minutes on one core;
    rl-baselines3-zoo reports 122 after 100 million.
    """
    from ppo_and_friends.vector.gym_vec import GymEnv

    return Experiment(
        env=GymEnv(id="BipedalWalker-v3", kwargs={"hardcore": True}),
        num_timesteps=6_000_000,
        envs_per_proc=64,
        ppo=replace(
            ADAPTIVE,
            minibatches=16,
            steps_total=16_384,
            clip_range=linear(0.2, 0.05),
            entropy_weight=constant(0.001),
            reward_clip=(-1.0, 10.0),
        ),
        net=ADAPTIVE_NET,
    )
