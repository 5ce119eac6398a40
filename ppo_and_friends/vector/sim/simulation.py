"""The two contracts behind every MuJoCo task: an engine (`Simulation`) and a task (`Task`)."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from ppo_and_friends.types import ActionSpace, Obs, TensorSpec

Memory = dict[str, Tensor]  # [N, ...] tensors that a task carries from step to step


class Simulation(Protocol):
    """N worlds of one MuJoCo model, stepped together."""

    rows: int
    device: torch.device
    dtype: torch.dtype  # float64 on the CPU engine, float32 on the GPU

    def bind(self, field: str) -> Tensor:
        """A live `[N, ...]` tensor over a field of mjData: qpos, qvel, ctrl, xpos, sensordata, cfrc_ext, ..."""
        ...

    def expand(self, field: str) -> Tensor:
        """A live `[N, ...]` tensor over a field of mjModel (body_mass, opt.gravity, ...): one value for each world."""
        ...

    def set_const(self, rows: Tensor) -> None:
        """Where `rows` ([N] bool), recompute what MuJoCo derives from masses, inertias and armatures: `mj_setConst`.

        To be called after writing those. Contacts, limits and friction losses are as soft as the inverse weights among
        these constants say, which therefore need a value for each world too. Leaves the state and what is bound alone.
        """
        ...

    def step(self, substeps: int) -> None: ...

    def reset(self, rows: Tensor) -> None:
        """Back to the model's initial state where `rows` ([N] bool): clears warm start, activations, forces, time."""
        ...

    def forward(self, rows: Tensor) -> None:
        """Recompute derived fields where `rows`; only for tasks whose observation after a reset reads them."""
        ...

    def state(self) -> dict[str, Any]:
        """qpos, qvel, act, qacc_warmstart, time, ctrl: less than that is not exact. And every derived field that is
        bound: a task may read what the last step left there (a position of before) at the start of the next."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Task(Protocol):
    """One task as tensor functions over simulator state. No loops over rows, no host synchronisation.

    What a reward needs from before the step (a position, a potential) lives in `memory`, never in an output
    that is read again later.
    """

    name: ClassVar[str]
    forward_after_reset: ClassVar[bool]  # whether `observe` or `apply` right after a reset read derived fields

    @property
    def substeps(self) -> int:
        """Simulator steps for each environment step."""
        ...

    @property
    def max_episode_steps(self) -> int:
        """The time limit; TaskEnv turns it into `Step.truncated`."""
        ...

    @property
    def action(self) -> ActionSpace: ...

    @property
    def actor(self) -> tuple[TensorSpec, ...]: ...

    @property
    def critic(self) -> tuple[TensorSpec, ...]: ...

    def model(self) -> Any:
        """The compiled `mujoco.MjModel`, loaded from the package that ships it."""
        ...

    def start(self, sim: Simulation) -> Memory:
        """Empty memory for `sim.rows` rows. Binds the derived fields that the task reads: `cfrc_ext` first."""
        ...

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        """Write controls, and remember what the reward will need from before the step."""
        ...

    def observe(self, sim: Simulation, memory: Memory) -> Obs: ...

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reward [N], terminated [N] bool, log."""
        ...

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        """Write initial positions and velocities where `rows` ([N] bool), with noise from `draw`."""
        ...


@runtime_checkable
class ScheduledTask(Protocol):
    """What a `Task` has too where something in it changes with the steps taken since the beginning of a run."""

    def elapse(self, memory: Memory, steps: int) -> None:
        """Write into empty memory that so many steps were taken."""
        ...


class Draw(Protocol):
    """Random numbers for resets. On the CPU each row has its own NumPy generator, seeded as Gymnasium seeds its own,
    so that an episode equals Gymnasium's; rows not asked for keep their generators untouched."""

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        """[N, size]; only the entries of `rows` mean anything."""
        ...

    def normal(self, rows: Tensor, size: int) -> Tensor:
        """[N, size] standard normal; only the entries of `rows` mean anything."""
        ...
