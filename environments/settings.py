"""Settings that several launchers share, whatever the environment.

WIDE        for a wide relu network (`net(256, 256, activation="relu")`): a large step size that falls to 0, epochs that
            end at a KL divergence of 0.03, normalised values
ADAPTIVE    rl_games' idea for EnvPool's MuJoCo: many rows, few large minibatches, a step size that follows the KL
            divergence; with ADAPTIVE_NET
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ppo_and_friends.config import BodyConfig, EvaluationConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.net_config import Activation
from ppo_and_friends.schedules import constant, linear


def net(*hidden: int, activation: Activation = "tanh", log_std_init: float = 0.0) -> NetConfig:
    """Actor and critic alike, with layers of these widths."""
    body = BodyConfig(hidden=hidden, activation=activation)
    return NetConfig(actor=body, critic=body, log_std_init=log_std_init)


def simulated(task: Any, num_timesteps: int, rows: int, ppo: PPOConfig, net: NetConfig) -> Experiment:
    """Train on a task of MuJoCo in so many rows. MuJoCo is imported when it is launched, not when it is listed."""
    from ppo_and_friends.vector.sim.task_env import SimEnv

    return Experiment(env=SimEnv(task=task), num_timesteps=num_timesteps, envs_per_proc=rows, ppo=ppo, net=net)


def many_worlds(task: Any, num_timesteps: int, rows: int, ppo: PPOConfig, net: NetConfig) -> Experiment:
    """`simulated`, in thousands of rows on a GPU. An evaluation takes as long there as training for as many steps as an
    episode may have, which is a good part of a whole run: there are two."""
    experiment = simulated(task, num_timesteps, rows, ppo, net)
    return replace(experiment, evaluation=EvaluationConfig(every=2))


WIDE = PPOConfig(lr=linear(1e-3, 0.0), stop_kl=0.03, normalize_values=True, epochs=10, minibatches=32, steps_total=2048)
ADAPTIVE = PPOConfig(
    lr=constant(3e-4),
    target_kl=0.012,
    kl_reference="previous_visit",
    epochs=5,
    minibatches=4,
    steps_total=4096,
    normalize_values=True,
    max_grad_norm=1.0,
    value_weight=2.0,
)
ADAPTIVE_NET = net(256, 128, 64, activation="elu", log_std_init=-1.0)
