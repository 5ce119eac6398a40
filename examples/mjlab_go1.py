"""mjlab's velocity task of the Unitree Go1: `python main.py -e examples/mjlab_go1.py:Go1`.

mjlab 1.6 comes with MuJoCo 3, so it needs a Python environment of its own:

    pip install mjlab==1.6.0 "gymnasium>=1.4" && pip install --no-deps .

`--env.terrain rough` takes the task with hills and stairs, `--envs_per_proc 1024` fewer robots. Without an NVIDIA GPU
it runs on Warp's CPU backend, too slowly to learn: `--envs_per_proc 8 --max_iterations 2` tries it out.
"""

import ctypes.util
import os
from typing import Any

from ppo_and_friends.config import BodyConfig, EvaluationConfig, Experiment, NetConfig, PPOConfig
from ppo_and_friends.schedules import constant
from ppo_and_friends.vector.tensor_env import TensorEnv


def make_go1(rows: int, device: str, terrain: str = "flat", render_mode: str | None = None) -> Any:
    """mjlab's own environment, as it registers it; its time limit is bootstrapped, as rsl_rl does."""
    if ctypes.util.find_library("EGL") is None:  # mjlab asks for it, drawing or not: MuJoCo is not imported then
        os.environ.setdefault("MUJOCO_GL", "disable")
    import mjlab.tasks  # noqa: F401  # pyright: ignore[reportMissingImports] - importing it registers the tasks
    from mjlab.envs import ManagerBasedRlEnv  # pyright: ignore[reportMissingImports]
    from mjlab.tasks.registry import load_env_cfg  # pyright: ignore[reportMissingImports]

    config = load_env_cfg(f"Mjlab-Velocity-{terrain.title()}-Unitree-Go1")
    config.scene.num_envs = rows
    return ManagerBasedRlEnv(config, device, render_mode=render_mode)


def Go1() -> Experiment:
    """Walk as a command of speed and turn says. Settings: mjlab's own for rsl_rl, as far as they exist here.

    What differs: one gradient norm for actor and critic together, the logarithm of the standard deviation is what is
    learned, observations are clipped at 10 standard deviations, and all robots start their first episode together.
    mjlab's run is 983 million steps; the robot walks after a small part of them.
    """
    body = BodyConfig(hidden=(512, 256, 128), activation="elu")
    return Experiment(
        env=TensorEnv(factory=make_go1, kwargs={"terrain": "flat"}, name="Go1 velocity (mjlab)"),
        num_timesteps=50_000_000,
        envs_per_proc=4096,
        net=NetConfig(actor=body, critic=body, initialization="default"),
        ppo=PPOConfig(
            lr=constant(1e-3),
            target_kl=0.01,
            lr_bounds=(1e-5, 1e-2),
            steps_per_row=24,
            epochs=5,
            minibatches=4,
            value_clip=0.2,
            value_weight=2.0,  # of half the squared error; rsl_rl's 1.0 is of the whole
            entropy_weight=constant(0.01),
            max_grad_norm=1.0,
            normalize_rewards=False,
            adam_eps=1e-8,
        ),
        evaluation=EvaluationConfig(every=5),
    )
