"""What Gymnasium's MuJoCo tasks (version 5) have in common: model files, spaces, resets, velocities, sums.

Everything a task does each step is written with tensors over a `Simulation`, for any engine and dtype. In float64
the operations come in the order Gymnasium's NumPy code takes, so both give the same bits. A cost is computed with its
weight negated and then added, which changes no bit and is what the log shows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.render import explain_backend
from ppo_and_friends.types import ActionSpace, Obs, TensorSpec
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant, write_rows

LANES = 8  # accumulators of NumPy's pairwise summation


@dataclass(frozen=True)
class GymnasiumTask:
    """The parts of a `Task` that Gymnasium's MuJoCo environments share. Fields are their constructor's settings.

    xml_file            a model of Gymnasium's own, or the path of another
    substeps            `frame_skip`: simulator steps for one action
    reset_noise_scale   size of the noise on initial positions (uniform) and velocities
    max_episode_steps   the time limit with which Gymnasium registers the task
    """

    xml_file: str
    substeps: int
    reset_noise_scale: float
    max_episode_steps: int = 1000

    name: ClassVar[str]
    normal_velocity_noise: ClassVar[bool] = False
    forward_after_reset: ClassVar[bool] = False

    def model(self) -> Any:
        return load_model(self.xml_file)

    @cached_property
    def dt(self) -> float:
        """Seconds of simulated time for one action."""
        return self.timestep * self.substeps

    @cached_property
    def timestep(self) -> float:
        """Seconds of one step of the simulator."""
        return float(self.model().opt.timestep)

    @property
    def action(self) -> ActionSpace:
        low, high = self.model().actuator_ctrlrange.astype("float32").T.tolist()
        return ActionSpace("box", low=tuple(low), high=tuple(high))

    @property
    def actor(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec((self.observation_size(self.model()),)),)

    @property
    def critic(self) -> tuple[TensorSpec, ...]:
        return self.actor

    def observation_size(self, model: Any) -> int:
        """Columns of the observation."""
        raise NotImplementedError

    def position(self, sim: Simulation) -> Tensor:
        """[N, D], that whose change is rewarded; D = 0 where a task rewards none."""
        return sim.bind("qpos").narrow(1, 0, 0)

    def start(self, sim: Simulation) -> Memory:
        return {"position": torch.zeros_like(self.position(sim))}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        memory["position"].copy_(self.position(sim))
        sim.bind("ctrl").copy_(action)

    def velocity(self, sim: Simulation, memory: Memory) -> tuple[Tensor, ...]:
        """D tensors [N]: mean velocity over the step, in metres a second."""
        return ((self.position(sim) - memory["position"]) / self.dt).unbind(1)

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        qpos, qvel, scale = sim.bind("qpos"), sim.bind("qvel"), self.reset_noise_scale
        position_noise = draw.uniform(rows, -scale, scale, qpos.shape[1])
        if self.normal_velocity_noise:
            velocity_noise = scale * draw.normal(rows, qvel.shape[1])
        else:
            velocity_noise = draw.uniform(rows, -scale, scale, qvel.shape[1])
        write_rows(qpos, rows, qpos + position_noise)
        write_rows(qvel, rows, qvel + velocity_noise)


def mujoco_module() -> Any:
    """The module mujoco, which ships no types.

    Raises:
        UserError: it is not installed, or MUJOCO_GL names no way to draw.
    """
    try:
        return import_module("mujoco")
    except ImportError as error:
        raise UserError("MuJoCo tasks need the package mujoco; install it with: pip install mujoco.") from error
    except RuntimeError as error:
        explain_backend(error)
        raise


@cache
def load_model(xml_file: str) -> Any:
    """Compile one of the models in Gymnasium's package, or another one by its path.

    Raises:
        UserError: mujoco or gymnasium is not installed, or the file does not exist.
    """
    mujoco = mujoco_module()
    found = find_spec("gymnasium")
    if found is None or found.origin is None:
        raise UserError("MuJoCo tasks take their models from gymnasium; install it with: pip install gymnasium.")
    path = Path(found.origin).parent / "envs" / "mujoco" / "assets" / xml_file
    if not path.exists():
        raise UserError(
            f"xml_file={xml_file!r} does not exist ({path}); name one of Gymnasium's models or a full path."
        )
    mujoco.set_mju_user_warning(logging.getLogger(__name__).info)  # else to the screen and a file MUJOCO_LOG.TXT
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    finally:
        mujoco.set_mju_user_warning(None)


def symmetric_obs(parts: tuple[Tensor, ...]) -> Obs:
    """Join `parts` ([N, *]) into one observation for actor and critic; every action is legal."""
    observation = torch.cat(parts, 1)
    return Obs(observation, observation, no_mask(observation))


def sum_columns(values: Tensor) -> Tensor:
    """[N, C] -> [N], added as NumPy adds up to 128 contiguous numbers.

    Its pairwise summation: one after another below eight; from eight on, eight running sums joined as a tree,
    then the rest one after another.
    """
    columns = values.shape[1]
    if columns < LANES:
        return reduce(torch.add, values.unbind(1))
    whole = columns - columns % LANES
    lanes = reduce(torch.add, values[:, :whole].unflatten(1, (-1, LANES)).unbind(1))
    while lanes.shape[1] > 1:
        lanes = lanes[:, 0::2] + lanes[:, 1::2]
    return reduce(torch.add, values[:, whole:].unbind(1), lanes[:, 0])


def sum_of_squares(values: Tensor) -> Tensor:
    """[N, C] -> [N]."""
    return sum_columns(values.square())


def inside(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Whether `values` lie strictly within `bounds`."""
    return (bounds[0] < values) & (values < bounds[1])


def never(sim: Simulation) -> Tensor:
    """[N] False: the `terminated` of a task without an end of its own. Nobody may write it."""
    return constant((False,), sim, torch.bool).expand(sim.rows)


def no_mask(observation: Tensor) -> Tensor:
    """[N, 0] bool: every action is legal."""
    return constant((), observation, torch.bool).expand(len(observation), 0)
