"""rl_games 1.6.5 on this project's own environment, with its own settings for NVIDIA's Isaac Gym tasks.

The settings are those that IsaacGymEnvs trains each task with. What stays different from ours, beside what
`environments/isaac.py` says:

- rl_games compiles its model with torch.compile, multiplies in TF32, and for some tasks in bfloat16, as it comes; ours
  computes as the launcher says. Sides `rl_games-fp32` and `rl_games-eager` leave bfloat16 and the compiler out.
- The environment's step is called from Python as it is; side `rl_games-graph` gives it one CUDA graph of it.
- Other rows than a task's own change the size of the minibatches there as here, not their number.
- Its mean return is a running mean of about the last 100 episodes, weighted step by step; ours is that of the last
  iterations in which at least 100 ended. Both are unscaled.
- A time limit is bootstrapped in the tasks for which IsaacGymEnvs asks for it, as its rl_games (1.6.1) did; left alone,
  1.6.5 does it in all.
- Neither side logs, evaluates or saves while it is timed; rl_games still computes what it would log.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from curves import Recorder
from torch import Tensor

VERSION = "1.6.5"
ENVIRONMENT = "device"  # what rl_games calls it
VARIANTS: dict[str, dict[str, Any]] = {
    "rl_games": {},
    "rl_games-fp32": {"mixed_precision": False},
    "rl_games-eager": {"torch_compile": False},
    "rl_games-graph": {},
}
ON_CPU = {"mixed_precision": False, "torch_compile": False}  # compiling costs more than a trial there


@dataclass(frozen=True)
class Settings:
    """What differs from task to task, in rl_games' words."""

    num_actors: int
    horizon_length: int
    minibatch_size: int
    mini_epochs: int
    units: tuple[int, ...]
    scale_value: float
    critic_coef: float
    learning_rate: float = 3e-4
    kl_threshold: float = 0.008
    schedule_type: str = "legacy"
    bounds_loss_coef: float = 1e-4
    mixed_precision: bool = False
    value_bootstrap: bool = False
    truncate_grads: bool = True
    activation: str = "elu"


_LEGS: dict[str, Any] = {"mixed_precision": True, "value_bootstrap": True}
_FLIGHT: dict[str, Any] = {"learning_rate": 1e-3, "kl_threshold": 0.016}
_HAND: dict[str, Any] = {
    "learning_rate": 5e-4,
    "kl_threshold": 0.016,
    "schedule_type": "standard",
    "value_bootstrap": True,
}
TASKS = {
    "IsaacCartpole": Settings(512, 16, 8192, 8, (32, 32), 0.1, 4),
    "IsaacAnt": Settings(4096, 16, 32768, 4, (256, 128, 64), 0.01, 2, **_LEGS, truncate_grads=False),
    "IsaacHumanoid": Settings(4096, 32, 32768, 5, (400, 200, 100), 0.01, 4, 5e-4, **_LEGS),
    "IsaacBallBalance": Settings(4096, 16, 8192, 8, (128, 64, 32), 0.1, 4),
    "IsaacAnymal": Settings(4096, 24, 32768, 5, (256, 128, 64), 1.0, 2, bounds_loss_coef=1e-3, **_LEGS),
    "IsaacQuadcopter": Settings(8192, 8, 16384, 8, (256, 256, 128), 0.1, 2, **_FLIGHT),
    "IsaacIngenuity": Settings(4096, 16, 16384, 8, (256, 256, 128), 0.01, 2, **_FLIGHT),
    "IsaacCrazyflie": Settings(
        4096, 16, 16384, 8, (256, 256, 128), 0.01, 2, **(_FLIGHT | {"learning_rate": 1e-4}), activation="tanh"
    ),
    "IsaacShadowHand": Settings(16384, 8, 32768, 5, (512, 512, 256, 128), 0.01, 4, **_HAND),
    "IsaacAllegroHand": Settings(16384, 8, 32768, 5, (512, 256, 128), 0.01, 4, **_HAND),
}


def parameters(name: str, rows: int, steps: int, seed: int, device: str, folder: str) -> dict[str, Any]:
    """What `Runner.load` takes under `params`, for `rows` rows and at least `steps` steps in all."""
    its = TASKS[name]
    minibatches = its.num_actors * its.horizon_length // its.minibatch_size
    batch = rows * its.horizon_length
    config = {
        "name": name,
        "env_name": ENVIRONMENT,
        "device": device,
        "train_dir": folder,
        "full_experiment_name": "run",
        "num_actors": rows,
        "horizon_length": its.horizon_length,
        "minibatch_size": batch // minibatches,
        "mini_epochs": its.mini_epochs,
        "max_epochs": -(-steps // batch),
        "reward_shaper": {"scale_value": its.scale_value},
        "learning_rate": its.learning_rate,
        "lr_schedule": "adaptive",
        "schedule_type": its.schedule_type,
        "kl_threshold": its.kl_threshold,
        "gamma": 0.99,
        "tau": 0.95,
        "e_clip": 0.2,
        "clip_value": True,
        "critic_coef": its.critic_coef,
        "entropy_coef": 0.0,
        "bounds_loss_coef": its.bounds_loss_coef,
        "truncate_grads": its.truncate_grads,
        "grad_norm": 1.0,
        "normalize_input": True,
        "normalize_value": True,
        "normalize_advantage": True,
        "value_bootstrap": its.value_bootstrap,
        "mixed_precision": its.mixed_precision,
        "ppo": True,
        "print_stats": False,
        "save_best_after": 10**9,
        "save_frequency": 0,
    }
    continuous = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": 0},
        "fixed_sigma": True,
    }
    layers = {"units": list(its.units), "activation": its.activation, "d2rl": False, "initializer": {"name": "default"}}
    network = {"name": "actor_critic", "separate": False, "space": {"continuous": continuous}, "mlp": layers}
    return {
        "seed": seed,
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": network,
        "config": config,
    }


class Adapter:
    """rl_games' `IVecEnv` over an environment whose tensors it takes as they are."""

    def __init__(self, env: Any, seed: int) -> None:
        self.env, self.seed_ = env, seed

    def reset(self) -> dict[str, Tensor]:
        (obs,) = self.env.reset(self.seed_)
        return {"obs": obs.actor}

    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]]:
        (step,) = self.env.step((actions,))
        ended = step.terminated | step.truncated
        return {"obs": step.obs.actor}, step.reward, ended, {"time_outs": step.truncated}

    def get_env_info(self) -> dict[str, Any]:
        from gymnasium.spaces import Box

        (group,) = self.env.spec.groups
        (part,) = group.actor
        low, high = (np.array(bound, np.float32) for bound in (group.action.low, group.action.high))
        seen = Box(-math.inf, math.inf, part.shape, np.float32)
        return {"observation_space": seen, "action_space": Box(low, high), "agents": 1, "value_size": 1}

    def get_number_of_agents(self) -> int:
        return 1

    def has_action_masks(self) -> bool:
        return False

    def set_train_info(self, *_: Any) -> None:
        """Nothing here depends on how far training has come."""

    def get_env_state(self) -> None:
        """Nothing to be saved."""


class Observer:
    """rl_games' `AlgoObserver`: a point of the curve after every epoch, and the end where the recorder says so."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.before_init = self.process_infos = self.after_steps = self.after_clear_stats = lambda *_: None

    def after_init(self, agent: Any) -> None:
        self.agent = agent
        agent.writer = SimpleNamespace(add_scalar=lambda *_: None)
        self.recorder.begin()

    def after_print_stats(self, frame: int, epoch: int, seconds: float) -> None:
        rewards = self.agent.game_rewards
        mean = float(rewards.get_mean().item()) if rewards.current_size else math.nan
        if self.recorder.add(self.agent.frame, mean):
            self.agent.max_epochs = epoch


def train(name: str, variant: str, env: Any, steps: int, seed: int, recorder: Recorder) -> None:
    """Train `name` on `env`, a `VecEnv` of one group."""
    from rl_games.common import env_configurations, vecenv  # pyright: ignore[reportMissingImports]
    from rl_games.torch_runner import Runner  # pyright: ignore[reportMissingImports]

    device = env.spec.device
    vecenv.register(ENVIRONMENT, lambda *_, **__: Adapter(env, seed))
    env_configurations.register(ENVIRONMENT, {"vecenv_type": ENVIRONMENT, "env_creator": lambda **_: env})
    with tempfile.TemporaryDirectory() as folder:
        made = parameters(name, env.spec.groups[0].rows, steps, seed, str(device), folder)
        made["config"] |= VARIANTS[variant]
        if device.type == "cpu":
            made["config"] |= ON_CPU
            made["torch_threads"] = 1
        runner = Runner(Observer(recorder))
        runner.load({"params": made})
        runner.run({"train": True, "play": False})
