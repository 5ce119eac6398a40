"""MuJoCo's locomotion and balance tasks with Gymnasium's v5 rewards, stepped in batch.

Starting points: CleanRL's continuous-control PPO and the choices of "What Matters In On-Policy Reinforcement
Learning" (arXiv:2006.05990), for 16 rows rather than one. Settings tuned for one environment do not carry over:
a rollout must stay a few thousand samples however many rows make it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ppo_and_friends.config import Activation, BodyConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.registry import experiment
from ppo_and_friends.schedules import constant, linear

_PPO = PPOConfig(lr=linear(3e-4, 0.0), epochs=10, minibatches=32, steps_total=2048)
_HUMANOID = replace(_PPO, lr=linear(3e-4, 3e-5), steps_total=8192, stop_kl=0.02)


def _net(width: int = 64, log_std_init: float = 0.0, activation: Activation = "tanh") -> NetConfig:
    body = BodyConfig(hidden=(width, width), activation=activation)
    return NetConfig(actor=body, critic=body, log_std_init=log_std_init)


def _experiment(task: Any, num_timesteps: int, rows: int, ppo: PPOConfig, net: NetConfig) -> Experiment:
    from ppo_and_friends.vector.sim.task_env import SimEnv

    return Experiment(env=SimEnv(task=task), num_timesteps=num_timesteps, envs_per_proc=rows, ppo=ppo, net=net)


@experiment("Ant")
def ant() -> Experiment:
    """Run with four legs of two joints; 6000 counts as solved.

    Settings: the family's starting point with a longer rollout; rewards cut at 10 as in this project's predecessor.
    """
    from environments.tasks.ant import Ant

    ppo = replace(_PPO, steps_total=4096, reward_clip=(-10.0, 10.0))
    return _experiment(Ant(), 10_000_000, 16, ppo, _net(256, log_std_init=-1.0))


@experiment("HalfCheetah")
def half_cheetah() -> Experiment:
    """Run as fast as possible on two legs in a plane; it cannot fall over.

    Settings: the family's starting point with a wider ReLU network, less noise, normalised values, and a step size
    three times as large whose epochs end at a KL divergence of 0.03. With `--num_timesteps 1000000` three seeds scored
    6250 +- 216 in 100 test episodes, in 4 minutes on one core.
    """
    from environments.tasks.half_cheetah import HalfCheetah

    ppo = replace(_PPO, lr=linear(1e-3, 0.0), stop_kl=0.03, normalize_values=True)
    return _experiment(HalfCheetah(), 3_000_000, 16, ppo, _net(256, log_std_init=-1.0, activation="relu"))


@experiment("Hopper")
def hopper() -> Experiment:
    """Hop forward on one leg without falling.

    Settings: the family's starting point.
    """
    from environments.tasks.hopper import Hopper

    return _experiment(Hopper(), 3_000_000, 16, _PPO, _net())


@experiment("Walker2d")
def walker2d() -> Experiment:
    """Walk forward on two legs in a plane without falling.

    Settings: the family's starting point.
    """
    from environments.tasks.walker2d import Walker2d

    return _experiment(Walker2d(), 3_000_000, 16, _PPO, _net())


@experiment("Swimmer")
def swimmer() -> Experiment:
    """Swim forward with two joints in a viscous plane.

    Settings: the family's starting point with gamma 0.9999 from rl-baselines3-zoo: the whole difference between
    returns of about 120 and 280. One seed scored 356.9 +- 1.8 in 100 test episodes after a million steps, in 6 minutes
    on one core.
    """
    from environments.tasks.swimmer import Swimmer

    ppo = replace(_PPO, gamma=0.9999, gae_lambda=0.98)
    return _experiment(Swimmer(), 1_000_000, 4, ppo, _net())


@experiment("Humanoid")
def humanoid() -> Experiment:
    """Walk forward on two legs with seventeen joints without falling.

    Settings: the family's starting point with a longer rollout and epochs that end at a KL divergence of 0.02.
    """
    from environments.tasks.humanoid import Humanoid

    return _experiment(Humanoid(), 16_000_000, 32, _HUMANOID, _net(256, log_std_init=-1.0))


@experiment("HumanoidStandup")
def humanoid_standup() -> Experiment:
    """Get up from the floor with seventeen joints.

    Settings: as Humanoid's, over fewer steps.
    """
    from environments.tasks.humanoid_standup import HumanoidStandup

    return _experiment(HumanoidStandup(), 8_000_000, 32, _HUMANOID, _net(256, log_std_init=-1.0))


@experiment("InvertedPendulum")
def inverted_pendulum() -> Experiment:
    """Balance a pole on a cart that is pushed; 1000 is perfect.

    Settings: the family's starting point over a short run. Three seeds scored 1000 in each of 100 test episodes after
    300 000 steps, in a minute and a half on one core.
    """
    from environments.tasks.inverted_pendulum import InvertedPendulum

    return _experiment(InvertedPendulum(), 300_000, 8, _PPO, _net())


@experiment("InvertedDoublePendulum")
def inverted_double_pendulum() -> Experiment:
    """Balance two poles, one on the other, on a cart that is pushed; about 9350 is perfect.

    Settings: the family's starting point over half the steps, with normalised values, observations as they are and a
    small entropy bonus. Three seeds (two of them interrupted and resumed) scored 9203 +- 160 in 100 test episodes after
    500 000 steps: a few episodes still fall at once. The starting point itself scored 6604 +- 525 over two seeds.
    """
    from environments.tasks.inverted_double_pendulum import InvertedDoublePendulum

    ppo = replace(_PPO, normalize_observations=False, normalize_values=True, entropy_weight=constant(0.001))
    return _experiment(InvertedDoublePendulum(), 500_000, 8, ppo, _net())
