"""What the tasks of NVIDIA's Isaac Gym (arXiv:2108.10470) have in common: models, spaces, the last action.

Isaac Gym's simulator, PhysX, and its model files cannot be had from a package index. The models are written here from
published dimensions, masses and limits, with primitive shapes, and run on MuJoCo: observations, rewards, ends and
resets are those of IsaacGymEnvs, contacts and joint limits are MuJoCo's. Isaac Gym resets a row one step late, so that
each of its episodes has one transition from the old end to the new start; here there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.common import symmetric_obs
from environments.tasks.isaac_model import compile_model
from ppo_and_friends.types import ActionSpace, Obs, TensorSpec
from ppo_and_friends.vector.sim.simulation import Memory, Simulation
from ppo_and_friends.vector.sim.tensors import constant

FREE = 7  # coordinates of a free joint, and where the hinges' begin where the first joint is one
FREE_SPEEDS = 6
OBSERVATION_CLIP = 5.0


@dataclass(frozen=True)
class IsaacTask:
    """The parts of a `Task` that all of them share. Actions are within -1 and 1.

    substeps            simulator steps for one action
    max_episode_steps   the time limit
    """

    substeps: int
    max_episode_steps: int

    name: ClassVar[str]
    forward_after_reset: ClassVar[bool] = False
    actions: ClassVar[int]
    observations: ClassVar[int]

    def mjcf(self) -> str:
        """The robot and its world."""
        raise NotImplementedError

    def model(self) -> Any:
        """The compiled `mujoco.MjModel`."""
        return compile_model(self.mjcf())

    @property
    def action(self) -> ActionSpace:
        return ActionSpace("box", low=(-1.0,) * self.actions, high=(1.0,) * self.actions)

    @property
    def actor(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec((self.observations,)),)

    @property
    def critic(self) -> tuple[TensorSpec, ...]:
        return self.actor


@dataclass(frozen=True)
class RobotTask(IsaacTask):
    """A robot that remembers its last action, and whether it has made one in this episode."""

    @cached_property
    def joint_limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper limits of the hinges and slides that have some, in radians or metres."""
        model = self.model()
        lower, upper = model.jnt_range[model.jnt_limited.astype(bool)].T.tolist()
        return tuple(lower), tuple(upper)

    def start(self, sim: Simulation) -> Memory:
        """action [N, A] is the last one, zero at first; stepped [N, 1] says whether the row has made a step."""
        return {
            "action": torch.zeros(sim.rows, self.actions, device=sim.device, dtype=sim.dtype),
            "stepped": torch.zeros(sim.rows, 1, device=sim.device, dtype=torch.bool),
        }

    def controls(self, sim: Simulation, action: Tensor) -> Tensor:
        """What the actuators are given, `[N, A]`, for an action of the policy `[N, A]`."""
        return action

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        memory["action"].copy_(action)
        memory["stepped"].fill_(True)
        sim.bind("ctrl").copy_(self.controls(sim, memory["action"]))

    def forget(self, memory: Memory, rows: Tensor) -> None:
        """Make the memory of `rows` ([N] bool) that of an episode's start."""
        memory["action"].masked_fill_(rows[:, None], 0.0)
        memory["stepped"].masked_fill_(rows[:, None], False)

    def measured(self, memory: Memory, forces: Tensor) -> Tensor:
        """`forces` ([N, *]) of the last step, and zero before the first one, when none was measured yet."""
        return torch.where(memory["stepped"], forces, constant((0.0,), forces))


def clipped(parts: tuple[Tensor, ...]) -> Tensor:
    """`parts` ([N, *]) in order, `[N, D]`, each number within +-5."""
    return torch.cat(parts, 1).clamp_(-OBSERVATION_CLIP, OBSERVATION_CLIP)


def clipped_obs(parts: tuple[Tensor, ...]) -> Obs:
    """`clipped`, for actor and critic."""
    return symmetric_obs((clipped(parts),))


def between(position: Tensor, lower: tuple[float, ...], upper: tuple[float, ...]) -> Tensor:
    """Joint positions [N, J] with their limits at -1 and 1."""
    middle = tuple((low + high) / 2 for low, high in zip(lower, upper, strict=True))
    half = tuple((high - low) / 2 for low, high in zip(lower, upper, strict=True))
    return (position - constant(middle, position)) / constant(half, position)
