"""A task and an engine make a `VecEnv`: time limits, resets in place, generators, pictures, exact resume."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.types import GroupSpec, Obs, Spec, Step, leaves, tree_map
from ppo_and_friends.vector.sim.simulation import Simulation, Task

PICTURE_SIZE = 480  # pixels, Gymnasium's own
TRACKING_CAMERA = "track"
PICTURE_WIDTHS = 1.5  # distance of a camera of our own, in diagonals of what moves


@dataclass(frozen=True)
class SimEnv:
    """`EnvConfig` of a MuJoCo task on the CPU engine."""

    task: Any  # a `Task` that is a dataclass; annotated loosely, so that the command line sees the one given

    def make(self, rows: int, threads: int = 1, render: bool = False) -> TaskEnv:
        choose_gl_backend()
        model = self.task.model()  # says it where mujoco is missing
        from ppo_and_friends.vector.sim.batch_cpu import BatchSim

        threads = min(threads, rows)
        engine = f"mujoco.batch, {threads} thread{'s' if threads > 1 else ''}"
        return TaskEnv(self.task, BatchSim(model, rows, threads, self.task.name), engine)


class TaskEnv:
    """`VecEnv` over a task and a simulation whose tensors the host may read.

    Row i of `reset(seed)` draws from `PCG64(SeedSequence((seed, i)))`. For seeds below 2**32 that is the
    generator of Gymnasium's `env.reset(seed=seed + (i << 32))`, so row 0 is Gymnasium's `env.reset(seed=seed)`,
    and a row's later episodes follow as Gymnasium's do after `env.reset()`.

    Args:
        task: what to observe, reward and end.
        sim: the worlds of `task.model()`.
        engine: what the user is told runs them.
        dtype: of observations, rewards and log. float64 shows the simulation's own numbers, for comparisons.
    """

    def __init__(self, task: Task, sim: Simulation, engine: str, dtype: torch.dtype = torch.float32) -> None:
        self.task, self.sim, self.dtype = task, sim, dtype
        self._memory = task.start(sim)
        self._wanted = (sim.rows, task.action.columns)
        self._draw = RowGenerators(0, sim)
        self._clock = 0  # steps so far; a row is as old as the clock is past its start
        self._started = torch.zeros(sim.rows, dtype=torch.int64, device=sim.device)
        self._next_limit = task.max_episode_steps  # no row meets its time limit before the clock shows this
        self._none = torch.zeros(sim.rows, dtype=torch.bool, device=sim.device)
        self._active = torch.ones(sim.rows, dtype=torch.bool, device=sim.device)
        self._camera: Camera | None = None
        observation = task.observe(sim, self._memory)
        group = GroupSpec(
            sim.rows, task.actor, task.critic, task.action, symmetric=observation.critic is observation.actor
        )
        pace = 1 / (task.model().opt.timestep * task.substeps)
        self.spec = Spec((group,), task.name, engine, sim.device, pace)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self._draw = RowGenerators(seed, self.sim)
        self._restart(self._active)
        return (self._cast(self.task.observe(self.sim, self._memory)),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        task, sim, memory = self.task, self.sim, self._memory
        (action,) = actions
        if action.shape != self._wanted:  # fewer would be broadcast
            raise ValueError(f"{task.name} needs actions {list(self._wanted)}, not {list(action.shape)}")
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
            obs = self._cast(task.observe(sim, memory))
        log = {name: value.to(self.dtype) for name, value in log.items()}
        return (Step(obs, final, reward.to(self.dtype), terminated, truncated, self._active, log),)

    def state(self) -> dict[str, Any]:
        return {
            "simulation": self.sim.state(),
            "memory": {name: tensor.clone() for name, tensor in self._memory.items()},
            "clock": self._clock,
            "started": self._started.clone(),
            "generators": self._draw.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken.

        Raises:
            UserError: it was taken from another number of rows.
        """
        rows = len(state["started"])
        if rows != self.sim.rows:
            raise UserError(
                f"The saved state has {rows} rows and this environment {self.sim.rows}; make it with {rows}."
            )
        self.sim.load_state(state["simulation"])
        for name, tensor in self._memory.items():
            tensor.copy_(state["memory"][name])
        self._clock = state["clock"]
        self._started.copy_(state["started"])
        self._find_next_limit()
        self._draw.load_state(state["generators"])

    def frame(self, row: int) -> np.ndarray:
        """`[480, 480, 3]` uint8, by the model's tracking camera where it has one."""
        if self._camera is None:
            self._camera = Camera(self.task.model())
        return self._camera.picture(self.sim.bind("qpos")[row])

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _restart(self, rows: Tensor) -> None:
        self.sim.reset(rows)
        self.task.reset(self.sim, self._memory, rows, self._draw)
        if self.task.forward_after_reset:
            self.sim.forward(rows)
        self._started.masked_fill_(rows, self._clock)
        self._find_next_limit()

    def _find_next_limit(self) -> None:
        self._next_limit = int(self._started.min()) + self.task.max_episode_steps

    def _cast(self, obs: Obs) -> Obs:
        def cast(part: Tensor) -> Tensor:
            return part.to(self.dtype)

        actor = tree_map(cast, obs.actor)
        return Obs(actor, actor if obs.critic is obs.actor else tree_map(cast, obs.critic), obs.mask)

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


class Camera:
    """Pictures of one world of a model, without a window."""

    def __init__(self, model: Any) -> None:
        self._mujoco: Any = import_module("mujoco")
        self._model, self._data = model, self._mujoco.MjData(model)
        self._renderer = self._mujoco.Renderer(model, PICTURE_SIZE, PICTURE_SIZE)
        camera = self._mujoco.mj_name2id(model, self._mujoco.mjtObj.mjOBJ_CAMERA, TRACKING_CAMERA)
        self._camera = camera if camera >= 0 else self._follower()

    def picture(self, qpos: Tensor) -> np.ndarray:
        """`[height, width, 3]` uint8 of the world at `qpos` ([nq])."""
        self._data.qpos[:] = qpos.cpu().numpy()
        self._mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()

    def _follower(self) -> Any:
        """A camera that follows the first body that moves, far enough away to see all that does."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_forward(model, data)
        moving = model.body_weldid[model.geom_bodyid] > 0
        radius = model.geom_rbound[moving, None]
        size = np.ptp(np.concatenate((data.geom_xpos[moving] - radius, data.geom_xpos[moving] + radius)), axis=0)
        camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, camera)
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING.value
        camera.trackbodyid = int(model.geom_bodyid[moving].min())
        camera.distance = PICTURE_WIDTHS * float(np.linalg.norm(size))
        return camera


def choose_gl_backend() -> None:
    """Let MuJoCo draw without a display. It reads `MUJOCO_GL` once, at its first import, so call this before.

    Where no library to draw with is installed nothing is set: training needs none, and MuJoCo would not even be
    imported with a backend that cannot be loaded."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return
    if find_library("EGL") and (find_library("OpenGL") or find_library("GL")):
        os.environ.setdefault("MUJOCO_GL", "egl")
    elif find_library("OSMesa"):
        os.environ.setdefault("MUJOCO_GL", "osmesa")
