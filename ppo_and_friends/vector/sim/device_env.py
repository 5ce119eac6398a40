"""A task and an engine on a device make a `VecEnv` whose steps never wait for that device."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import Obs, Step, leaves
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation, Task
from ppo_and_friends.vector.sim.task_rows import TaskRows, on_each
from ppo_and_friends.vector.sim.tensors import beside

LARGEST = 1e10  # MuJoCo's own limit for positions and velocities
# A world on its way there gives rewards that drown all others: a run's mean return fell to minus 24 times its best.
# This is as fast as Isaac Gym lets a body be, in m/s, and far beyond any joint, in rad/s.
FASTEST = 1e3
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
    episode ended. A row whose simulation, reward or observation is not finite, or huge, or that moves too fast, ends
    there: it shows zeros, is not active in that step, is counted as 1 in the log's `simulation_failures`, and
    starts anew. `contact_overflow` is 1 where the engine lost contacts for lack of room.

    Rows draw together from `generator`, on the simulation's device.

    Between two calls of the simulator and the generator, a step is three functions of tensors: `apply`, `judge` and
    `observe`. They may be replaced by faster ones that do the same (see `replace_maths`). A task whose reset calls the
    simulator, as `Randomized` does to derive constants from masses, has a `judge` that is more than that.
    """

    counts = (FAILURES, OVERFLOWS)
    recordable = True

    def __init__(self, task: Task, sim: DeviceSimulation, engine: str) -> None:
        super().__init__(task, sim, engine, torch.float32)
        self._engine = sim
        self.generator = Generator(sim.device)
        self._chance = DeviceDraws(task, sim, self._memory, self.generator)
        self._clock = torch.zeros((), dtype=torch.int64, device=sim.device)
        self._zero = torch.zeros((), dtype=self.dtype, device=sim.device)
        self.apply: Callable[[Tensor], None] = self._apply
        self.judge: Callable[[Tensor], tuple[Step, Tensor]] = self._judge
        self.observe: Callable[[], Obs] = self._observe

    def replace_maths(self, faster: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put `faster(function)` in the place of each of the three."""
        self.apply, self.judge, self.observe = map(faster, (self.apply, self.judge, self.observe))

    @property
    def generators(self) -> tuple[Generator, ...]:
        """All that a step draws from."""
        return (self.generator,)

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.generator.manual_seed(seed)
        self._forget()
        self._chance.renew()
        self._begin(self._everywhere)
        self._derive(self._everywhere)
        return (self._observe(),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        (action,) = actions
        self._check_actions(action)
        self.apply(action)
        self.sim.step(self.task.substeps)
        self._chance.renew()
        judged, cut = self.judge(action)
        self._derive(cut)
        return (judged._replace(obs=self.observe()),)

    def state(self) -> dict[str, Any]:
        return super().state() | {"clock": self._clock.clone(), "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._clock.copy_(state["clock"])
        self.generator.set_state(state["generator"])

    def _apply(self, action: Tensor) -> None:
        self.task.apply(self.sim, self._memory, action)

    def _judge(self, action: Tensor) -> tuple[Step, Tensor]:
        """What the step led to, `obs` still to be replaced, and new episodes in the rows ([N] bool) where one ended."""
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
        shown, cut = self._shown(final, good), terminated | truncated
        self._begin(cut)
        return Step(shown, shown, reward, terminated, truncated, good, log), cut

    def _begin(self, rows: Tensor) -> None:
        self._begin_episodes(rows, self._chance.draw(), self._clock)

    def _good(self, obs: Obs, reward: Tensor) -> Tensor:
        """[N] bool: rows whose numbers are all finite, none huge, and that are not too fast."""
        speed = self.sim.bind("qvel")
        seen = leaves(obs.actor) + (() if obs.critic is obs.actor else leaves(obs.critic))
        parts = (reward[:, None], self.sim.bind("qpos"), speed * (LARGEST / FASTEST), *seen)
        largest = torch.linalg.vector_norm(torch.cat([part.flatten(1) for part in parts], 1), inf, dim=1)
        return largest < LARGEST  # false for NaN

    def _shown(self, obs: Obs, rows: Tensor) -> Obs:
        """`obs` with zeros beside `rows` ([N] bool)."""

        def shown(part: Tensor) -> Tensor:
            return torch.where(beside(rows, part), part, self._zero)

        return on_each(shown, obs)


class DeviceDraws:
    """What the rows' new starts draw: two blocks of fresh numbers for every row, filled by one call each."""

    def __init__(self, task: Task, sim: Simulation, memory: Memory, generator: Generator) -> None:
        self._generator = generator
        wanted = Wanted(sim)
        task.reset(sim, memory, torch.zeros(sim.rows, dtype=torch.bool, device=sim.device), wanted)
        self._uniform, self._normal = wanted.nothing(wanted.uniforms), wanted.nothing(wanted.normals)

    def renew(self) -> None:
        self._uniform.uniform_(generator=self._generator)
        self._normal.normal_(generator=self._generator)

    def draw(self) -> Draw:
        return Columns(self._uniform, self._normal)


class Wanted:
    """`Draw` that counts the columns that are asked for, and gives zeros."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.uniforms = self.normals = 0

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        self.uniforms += size
        return self.nothing(size)

    def normal(self, rows: Tensor, size: int) -> Tensor:
        self.normals += size
        return self.nothing(size)

    def nothing(self, size: int) -> Tensor:
        return torch.zeros(self._sim.rows, size, device=self._sim.device, dtype=self._sim.dtype)


class Columns:
    """`Draw` of the columns of two blocks, from left to right."""

    def __init__(self, uniform: Tensor, normal: Tensor) -> None:
        self._uniform, self._normal = uniform, normal

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        self._uniform, taken = _split(self._uniform, size)
        return low + (high - low) * taken

    def normal(self, rows: Tensor, size: int) -> Tensor:
        self._normal, taken = _split(self._normal, size)
        return taken


def _split(block: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What is left of a block, and its first columns."""
    if block.shape[1] < size:
        raise UserError("The task's reset draws more numbers than at first: on a GPU it must always draw as many.")
    return block[:, size:], block[:, :size]
