"""A task and an engine make a `VecEnv`: time limits, resets in place, generators, pictures, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import EnvironmentFailure
from ppo_and_friends.types import Obs, Step, leaves
from ppo_and_friends.vector.base import VecEnv
from ppo_and_friends.vector.sim.camera import choose_gl_backend
from ppo_and_friends.vector.sim.simulation import Simulation, Task
from ppo_and_friends.vector.sim.task_rows import TaskRows


@dataclass(frozen=True)
class SimEnv:
    """`EnvConfig` of a MuJoCo task."""

    task: Any  # a `Task` that is a dataclass; annotated loosely, so that the command line sees the one given
    simulator: Literal["auto", "cpu", "warp", "isaacgym"] = "auto"
    """cpu: MuJoCo on this rank's cores. warp: mujoco_warp on its GPU. auto: for a new run with 1024 rows or more a
    rank warp, where there is a GPU for it and mujoco_warp; otherwise cpu. isaacgym: Isaac Gym itself, for launchers
    whose task it has (--isaacgym_python). A run keeps the one that it began with."""
    max_contacts: int = 0
    """Room for contacts of one world on the GPU; 0 measures what random controls need, and adds to it."""
    max_constraints: int = 0
    """The same for constraints: joint limits, and up to four for each contact with friction."""

    def make(self, rows: int, threads: int = 1, render: bool = False) -> VecEnv:
        """As `EnvConfig`; what stands on a GPU stands on torch's current one. `auto` and `isaacgym` are the run's
        to resolve (simulator.py): here, they mean the CPU."""
        choose_gl_backend()
        model = self.task.model()  # says it where mujoco is missing
        if self.simulator == "warp":
            return self._on_gpu(model, rows)
        from ppo_and_friends.vector.sim.batch_cpu import BatchSim

        threads = min(threads, rows)
        engine = f"mujoco.batch, {threads} thread{'s' if threads > 1 else ''}"
        return TaskEnv(self.task, BatchSim(model, rows, threads, self.task.name), engine)

    def _on_gpu(self, model: Any, rows: int) -> VecEnv:
        from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv
        from ppo_and_friends.vector.sim.warp_gpu import WarpSim, describe
        from ppo_and_friends.vector.sim.warp_limits import Limits

        device = torch.device("cuda", torch.cuda.current_device())
        limits = Limits(self.max_contacts, self.max_constraints)
        return DeviceTaskEnv(self.task, WarpSim(model, rows, self.task.name, device, limits), describe(model))


class TaskEnv(TaskRows):
    """`VecEnv` over a task and a simulation whose tensors the host may read.

    Row i of `reset(seed)` draws from `PCG64(SeedSequence((seed, i)))`. For seeds below 2**32 that is the
    generator of Gymnasium's `env.reset(seed=seed + (i << 32))`, so row 0 is Gymnasium's `env.reset(seed=seed)`,
    and a row's later episodes follow as Gymnasium's do after `env.reset()`.

    Args:
        dtype: float64 shows the simulation's own numbers, for comparisons.
    """

    def __init__(self, task: Task, sim: Simulation, engine: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(task, sim, engine, dtype)
        self._draw = RowGenerators(0, sim)
        self._clock = 0  # steps so far; a row is as old as the clock is past its start
        self._next_limit = task.max_episode_steps  # no row meets its time limit before the clock shows this
        self._none = torch.zeros(sim.rows, dtype=torch.bool, device=sim.device)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self._draw = RowGenerators(seed, self.sim)
        self._forget()
        self._restart(self._everywhere)
        return (self._observe(),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        task, sim, memory = self.task, self.sim, self._memory
        (action,) = actions
        self._check_actions(action)
        task.apply(sim, memory, action)
        sim.step(task.substeps)
        self._clock += 1
        reward, terminated, log = task.reward_done(sim, memory, action)
        observation = task.observe(sim, memory)
        self._check(observation, reward)
        final = obs = self._cast(observation)
        truncated, cut = self._none, terminated
        if self._clock >= self._next_limit:
            truncated = self._clock - self._started >= task.max_episode_steps
            cut = terminated | truncated
        if cut.any():
            self._restart(cut)
            obs = self._observe()
        log = {name: value.to(self.dtype) for name, value in log.items()}
        return (Step(obs, final, reward.to(self.dtype), terminated, truncated, self._everywhere, log),)

    def state(self) -> dict[str, Any]:
        return super().state() | {"clock": self._clock, "generators": self._draw.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._clock = state["clock"]
        self._find_next_limit()
        self._draw.load_state(state["generators"])

    def _restart(self, rows: Tensor) -> None:
        self._begin_episodes(rows, self._draw, torch.tensor(self._clock))
        self._derive(rows)
        self._find_next_limit()

    def _find_next_limit(self) -> None:
        self._next_limit = int(self._started.min()) + self.task.max_episode_steps

    def _check(self, obs: Obs, reward: Tensor) -> None:
        """One sum tells whether any number is bad; only then is the place looked for."""
        total = reward.sum()
        for part in leaves(obs.actor) + (() if obs.critic is obs.actor else leaves(obs.critic)):
            total += part.sum()
        if math.isfinite(total.item()):
            return
        for key, tree in (("reward", reward), ("observation", obs.actor), ("critic's observation", obs.critic)):
            for part in leaves(tree):
                for row in (~torch.isfinite(part)).nonzero()[:, 0].tolist():
                    step = self._clock - int(self._started[row])
                    raise EnvironmentFailure(
                        f"{self.task.name}: the {key} of row {row} is not finite in step {step} of its episode."
                    )


class RowGenerators:
    """`Draw` with one NumPy generator a row; see `TaskEnv` for the seeds."""

    def __init__(self, seed: int, sim: Simulation) -> None:
        self._sim = sim
        self._rows = [np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, i)))) for i in range(sim.rows)]

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        return self._fill(rows, size, lambda generator: generator.uniform(low, high, size))

    def normal(self, rows: Tensor, size: int) -> Tensor:
        return self._fill(rows, size, lambda generator: generator.standard_normal(size))

    def state(self) -> list[dict[str, Any]]:
        """PCG64's own numbers, plain ints."""
        return [dict(generator.bit_generator.state) for generator in self._rows]

    def load_state(self, state: list[dict[str, Any]]) -> None:
        for generator, saved in zip(self._rows, state, strict=True):
            generator.bit_generator.state = saved

    def _fill(self, rows: Tensor, size: int, draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        values = np.zeros((self._sim.rows, size))
        for row in rows.nonzero()[:, 0].tolist():
            values[row] = draw(self._rows[row])
        return torch.from_numpy(values).to(self._sim.device, self._sim.dtype)
