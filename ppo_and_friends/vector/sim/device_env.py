"""A task and an engine on a device make a `VecEnv` whose steps never wait for that device."""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from ppo_and_friends.types import Obs, Step, leaves
from ppo_and_friends.vector.sim.simulation import Simulation, Task
from ppo_and_friends.vector.sim.task_rows import TaskRows, on_each
from ppo_and_friends.vector.sim.tensors import beside

LARGEST = 1e10  # beyond this a world is unstable: MuJoCo's own limit for positions and velocities
FAILURES, OVERFLOWS = "simulation_failures", "contact_overflow"  # what `Step.log` calls them


class DeviceSimulation(Simulation, Protocol):
    """An engine with arrays of fixed sizes, which reports trouble in a tensor instead of raising."""

    @property
    def overflowed(self) -> Tensor:
        """[N] bool: contacts or constraints were lost in the last step, for lack of room."""
        ...


class DeviceTaskEnv(TaskRows):
    """`VecEnv` over a task and a simulation whose tensors the host must not wait for.

    Counters, ends and resets are tensors: every step draws a new start for every row and writes it where an
    episode ended. A row whose simulation, reward or observation is not finite (or huge, as MuJoCo judges) ends
    there: it shows zeros, is not active in that step, is counted as 1 in the log's `simulation_failures`, and
    starts anew. `contact_overflow` is 1 where the engine lost contacts for lack of room.

    Rows draw together from `generator`, on the simulation's device.
    """

    counts = (FAILURES, OVERFLOWS)
    recordable = True

    def __init__(self, task: Task, sim: DeviceSimulation, engine: str) -> None:
        super().__init__(task, sim, engine, torch.float32)
        self._engine = sim
        self.generator = Generator(sim.device)
        self._draw = DeviceDraw(self.generator, sim)
        self._clock = torch.zeros((), dtype=torch.int64, device=sim.device)
        self._zero = torch.zeros((), dtype=self.dtype, device=sim.device)

    @property
    def generators(self) -> tuple[Generator, ...]:
        """All that a step draws from."""
        return (self.generator,)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.generator.manual_seed(seed)
        self._forget()
        self._begin_episodes(self._everywhere, self._draw, self._clock)
        return (self._observe(),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        (action,) = actions
        self._check_actions(action)
        self.task.apply(self.sim, self._memory, action)
        self.sim.step(self.task.substeps)
        return (self._judge(action),)

    def state(self) -> dict[str, Any]:
        return super().state() | {"clock": self._clock.clone(), "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._clock.copy_(state["clock"])
        self.generator.set_state(state["generator"])

    def _judge(self, action: Tensor) -> Step:
        """What the step led to, and new episodes where one ended."""
        self._clock += 1
        reward, terminated, log = self.task.reward_done(self.sim, self._memory, action)
        final = self._observe()
        good = self._good(final, reward)
        failed = ~good
        terminated = terminated | failed
        truncated = self._clock - self._started >= self.task.max_episode_steps
        # one tensor of all, so that one kernel makes it and one clears the rows that failed
        numbers = torch.stack([value.to(self.dtype) for value in (reward, *log.values())])
        reward, *terms = numbers.masked_fill_(failed, 0).unbind()
        log = dict(zip(log, terms, strict=True))
        log[FAILURES] = failed.to(self.dtype)
        log[OVERFLOWS] = self._engine.overflowed.to(self.dtype)
        self._begin_episodes(terminated | truncated, self._draw, self._clock)
        return Step(self._observe(), self._shown(final, good), reward, terminated, truncated, good, log)

    def _good(self, obs: Obs, reward: Tensor) -> Tensor:
        """[N] bool: rows whose numbers are all finite, and none huge."""
        seen = leaves(obs.actor) + (() if obs.critic is obs.actor else leaves(obs.critic))
        parts = (reward[:, None], self.sim.bind("qpos"), self.sim.bind("qvel"), *seen)
        largest = torch.linalg.vector_norm(torch.cat([part.flatten(1) for part in parts], 1), inf, dim=1)
        return largest < LARGEST  # false for NaN

    def _shown(self, obs: Obs, rows: Tensor) -> Obs:
        """`obs` with zeros beside `rows` ([N] bool)."""

        def shown(part: Tensor) -> Tensor:
            return torch.where(beside(rows, part), part, self._zero)

        return on_each(shown, obs)


class DeviceDraw:
    """`Draw` of one generator for all rows: fresh numbers for every row, whichever are asked for."""

    def __init__(self, generator: Generator, sim: Simulation) -> None:
        self._made: dict[str, Any] = {"generator": generator, "device": sim.device, "dtype": sim.dtype}

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        return low + (high - low) * torch.rand(len(rows), size, **self._made)

    def normal(self, rows: Tensor, size: int) -> Tensor:
        return torch.randn(len(rows), size, **self._made)
