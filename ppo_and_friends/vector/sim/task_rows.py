"""What the environments over a task share, whichever engine steps it: casts, restarts, pictures, states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import GroupSpec, Obs, Spec, tree_map
from ppo_and_friends.vector.sim.camera import Camera
from ppo_and_friends.vector.sim.simulation import Draw, ScheduledTask, Simulation, Task
from ppo_and_friends.vector.sim.tensors import write_rows


class TaskRows:
    """Rows of one task on one simulation.

    Args:
        task: what to observe, reward and end.
        sim: the worlds of `task.model()`.
        engine: what the user is told runs them.
        dtype: of observations, rewards and log.
    """

    counts: tuple[str, ...] = ()  # entries of the log beside the task's own: of trouble, summed over a rollout
    recordable = False

    def __init__(self, task: Task, sim: Simulation, engine: str, dtype: torch.dtype) -> None:
        self.task, self.sim, self.dtype = task, sim, dtype
        self._memory = task.start(sim)
        self._empty = {name: tensor.clone() for name, tensor in self._memory.items()}
        self._started = torch.zeros(sim.rows, dtype=torch.int64, device=sim.device)  # on the clock of all rows
        self._everywhere = torch.ones(sim.rows, dtype=torch.bool, device=sim.device)
        self._elapsed = 0
        self._camera: Camera | None = None
        # All is asked once, for names and so that what tasks keep is made; a reset forgets it.
        nothing = torch.zeros(sim.rows, task.action.columns, device=sim.device, dtype=sim.dtype)
        task.apply(sim, self._memory, nothing)
        observation = task.observe(sim, self._memory)
        *_, log = task.reward_done(sim, self._memory, nothing)
        group = GroupSpec(
            sim.rows,
            task.actor,
            task.critic,
            task.action,
            symmetric=observation.critic is observation.actor,
            logs=(*log, *self.counts),
            counts=self.counts,
            views=getattr(task, "views", None),
            mirror=getattr(task, "mirror", None),
        )
        pace = 1 / (task.model().opt.timestep * task.substeps)
        self.spec = Spec((group,), task.name, engine, sim.device, pace, self.recordable)
        self._wanted = (sim.rows, task.action.columns)

    def elapse(self, steps: int) -> None:
        """As `Scheduled`: only a task that has schedules is told."""
        self._elapsed = steps

    def frame(self, row: int) -> np.ndarray:
        """`[480, 480, 3]` uint8, by the model's tracking camera where it has one."""
        if self._camera is None:
            self._camera = Camera(self.task.model())
        return self._camera.picture(self.sim.bind("qpos")[row])

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def state(self) -> dict[str, Any]:
        return {
            "simulation": self.sim.state(),
            "memory": {name: tensor.clone() for name, tensor in self._memory.items()},
            "started": self._started.clone(),
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
        self._started.copy_(state["started"])

    def _forget(self) -> None:
        """Empty the task's memory, else what outlives an episode would outlive the seed."""
        for name, tensor in self._memory.items():
            tensor.copy_(self._empty[name])
        if isinstance(self.task, ScheduledTask):
            self.task.elapse(self._memory, self._elapsed)
        self._elapsed = 0

    def _check_actions(self, action: Tensor) -> None:
        """Raise ValueError where there are too few actions: they would be broadcast."""
        if action.shape != self._wanted:
            raise ValueError(f"{self.task.name} needs actions {list(self._wanted)}, not {list(action.shape)}")

    def _begin_episodes(self, rows: Tensor, draw: Draw, clock: Tensor) -> None:
        """New episodes for `rows` ([N] bool), begun at `clock` (a number)."""
        self.sim.reset(rows)
        self.task.reset(self.sim, self._memory, rows, draw)
        write_rows(self._started, rows, clock)

    def _derive(self, rows: Tensor) -> None:
        """What an observation right after `_begin_episodes` reads, where the task reads derived fields then."""
        if self.task.forward_after_reset:
            self.sim.forward(rows)

    def _observe(self) -> Obs:
        return self._cast(self.task.observe(self.sim, self._memory))

    def _cast(self, obs: Obs) -> Obs:
        return on_each(lambda part: part.to(self.dtype), obs)


def on_each(function: Callable[[Tensor], Tensor], obs: Obs) -> Obs:
    """`function` of each of the tensors that actor and critic see, once where they see the same."""
    actor = tree_map(function, obs.actor)
    return Obs(actor, actor if obs.critic is obs.actor else tree_map(function, obs.critic), obs.mask)
