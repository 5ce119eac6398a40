"""What `peers.py` trains: settings that Stable-Baselines3 has too, and their translation.

Settings are written once, as experiments; `sb3_settings` and `sb3_normalizer` say the same to Stable-Baselines3.
Adam's epsilon (1e-5), orthogonal initialisation, separate networks of 64 x 64 tanh and a free log-std that starts at 0
are the defaults of both. What stays different: Stable-Baselines3 normalises advantages by minibatch rather than by
rollout, and its normalisers move at every step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ppo_and_friends.config import EvaluationConfig, Experiment, PPOConfig
from ppo_and_friends.schedules import Schedule, constant

ATARI = {"PongPeer": "PongNoFrameskip-v4"}
GYMNASIUM_IDS = {"HalfCheetahPeer": "HalfCheetah-v5", "CartPolePeer": "CartPole-v1", **ATARI}
NO_EVALUATION = EvaluationConfig(every=0)


def HalfCheetahPeer() -> Experiment:
    from environments.tasks.half_cheetah import HalfCheetah
    from ppo_and_friends.vector.sim.task_env import SimEnv

    ppo = PPOConfig(
        lr=constant(3e-4), steps_total=8 * 256, minibatches=32, epochs=10, reward_clip=(-10.0, 10.0), max_grad_norm=0.5
    )
    return Experiment(SimEnv(task=HalfCheetah()), 1_000_000, 8, ppo, evaluation=NO_EVALUATION)


def CartPolePeer() -> Experiment:
    from ppo_and_friends.vector.gym_vec import GymEnv

    ppo = PPOConfig(
        lr=constant(1e-3),
        gamma=0.98,
        gae_lambda=0.8,
        steps_total=8 * 32,
        minibatches=1,
        epochs=20,
        normalize_observations=False,
        normalize_rewards=False,
    )
    return Experiment(GymEnv(id="CartPole-v1"), 1_000_000, 8, ppo, evaluation=NO_EVALUATION)


def PongPeer() -> Experiment:
    from environments.atari import GAMES, pong_pixels

    ppo = replace(GAMES, lr=constant(2.5e-4), clip_range=constant(0.1))
    return replace(pong_pixels(), envs_per_proc=8, ppo=ppo, evaluation=NO_EVALUATION)


def sb3_settings(experiment: Experiment) -> dict[str, Any]:
    """Keyword arguments of `stable_baselines3.PPO`."""
    ppo = experiment.ppo
    return {
        "learning_rate": _number(ppo.lr),
        "n_steps": ppo.steps_total // experiment.envs_per_proc,
        "batch_size": ppo.steps_total // ppo.minibatches,
        "n_epochs": ppo.epochs,
        "gamma": ppo.gamma,
        "gae_lambda": ppo.gae_lambda,
        "clip_range": _number(ppo.clip_range),
        "ent_coef": _number(ppo.entropy_weight),
        "vf_coef": ppo.value_weight,
        "max_grad_norm": ppo.max_grad_norm,
    }


def sb3_normalizer(experiment: Experiment) -> dict[str, Any] | None:
    """Keyword arguments of `VecNormalize`; None where nothing is normalised."""
    ppo = experiment.ppo
    if not ppo.normalize_observations:
        return None
    return {"gamma": ppo.gamma, "clip_obs": ppo.observation_clip, "clip_reward": ppo.reward_clip[1]}


def _number(schedule: Schedule) -> float:
    (value,) = set(schedule.values())
    return value
