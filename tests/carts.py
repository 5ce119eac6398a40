"""A task of two bodies whose numbers can be had by hand, and helpers to randomise it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ppo_and_friends.types import ActionSpace, Obs, Step, TensorSpec
from ppo_and_friends.vector.sim.randomize import Randomized
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.task_env import TaskEnv, choose_gl_backend

choose_gl_backend()

import mujoco

from ppo_and_friends.vector.sim.batch_cpu import BatchSim  # after choose_gl_backend: it imports mujoco

ROWS, SEED = 4, 3
TIMESTEP, MASS, GRAVITY = 0.01, 2.0, 10.0
CARTS = f"""
<mujoco>
  <option timestep="{TIMESTEP}" gravity="0 0 -{GRAVITY}"/>
  <worldbody>
    <body name="cart">
      <joint name="cart" type="slide" axis="1 0 0" damping="3" stiffness="7" range="-5 5" armature="0"/>
      <geom size=".1" mass="{MASS}"/>
    </body>
    <body name="drop" pos="1 0 0">
      <joint name="drop" type="slide" axis="0 0 1"/>
      <geom size=".1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="cart" ctrlrange="-10 10"/></actuator>
</mujoco>
"""


@dataclass(frozen=True)
class Carts:
    """A cart pushed by a motor, and a body that falls. What is seen: both positions and velocities; a critic's own."""

    max_episode_steps: int = 10
    name: ClassVar[str] = "Carts"
    forward_after_reset: ClassVar[bool] = False
    substeps: ClassVar[int] = 1
    actor: ClassVar = (TensorSpec((4,)),)
    critic: ClassVar = (TensorSpec((4,)),)

    @cached_property
    def action(self) -> ActionSpace:
        return ActionSpace("box", low=(-10.0,), high=(10.0,))

    def model(self) -> Any:
        return mujoco.MjModel.from_xml_string(CARTS)

    def start(self, sim: Simulation) -> Memory:
        return {"acted": torch.zeros(sim.rows, 1)}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        memory["acted"].copy_(action)
        sim.bind("ctrl").copy_(action)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        seen = torch.cat((sim.bind("qpos"), sim.bind("qvel")), 1)
        return Obs(seen, seen.clone(), torch.zeros(sim.rows, 0, dtype=torch.bool))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return action[:, 0].clone(), torch.zeros(sim.rows, dtype=torch.bool), {}

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        qpos = sim.bind("qpos")
        qpos.copy_(torch.where(rows[:, None], draw.uniform(rows, -0.1, 0.1, 2), qpos))


def environment(task: Any, rows: int = ROWS) -> TaskEnv:
    return TaskEnv(task, BatchSim(task.model(), rows, 1, task.name), "test", torch.float64)


def carts(rows: int = ROWS, frequency: int = 0, steps: int = 10, **entries: Any) -> TaskEnv:
    env = environment(Randomized(Carts(max_episode_steps=steps), frequency=frequency, **entries), rows)
    env.reset(SEED)
    return env


def run(env: TaskEnv, steps: int, force: float = 0.0) -> list[Step]:
    action = torch.full((env.sim.rows, env.task.action.columns), force)
    return [env.step((action,))[0] for _ in range(steps)]


def mask(*rows: int) -> Tensor:
    return torch.isin(torch.arange(ROWS), torch.tensor(rows))


def constant(number: float, **settings: Any) -> dict[str, Any]:
    """A distribution that always gives one number."""
    return {"range": (number, number), **settings}


def column(env: TaskEnv, field: str, element: int = 0) -> Tensor:
    return env.sim.expand(field)[:, element].clone()
