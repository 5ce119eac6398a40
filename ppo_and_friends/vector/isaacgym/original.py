"""A launcher whose task was re-created from Isaac Gym's, on the original: what --simulator isaacgym stands for."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, ClassVar

from ppo_and_friends import registry
from ppo_and_friends.checkpoint import differences
from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.serialize import to_plain
from ppo_and_friends.types import GroupSpec, TensorSpec
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv, IsaacGymVec
from ppo_and_friends.vector.isaacgym.failures import INSTALLED
from ppo_and_friends.vector.isaacgym.process import interpreter

SAME_NAMES = (
    *("Cartpole", "Ant", "Humanoid", "BallBalance", "Anymal"),
    *("Quadcopter", "Ingenuity", "ShadowHand", "AllegroHand"),
)
TASKS = {f"Isaac{task}": task for task in SAME_NAMES} | {"IsaacShadowHandAsymmetric": "ShadowHandOpenAI_FF"}
"""Launchers whose task isaacgymenvs has too, and its name there."""

FLAG, VARIABLE = "--isaacgym_python", "ISAACGYM_PYTHON"


@dataclass(frozen=True)
class Original:
    """`EnvConfig` of Isaac Gym's own task in the place of its re-creation."""

    simulator: ClassVar[str] = "isaacgym"  # as a run's state names it
    env: IsaacGymEnv
    recreation: Any  # the launcher's `Task`

    def make(self, rows: int, threads: int = 1, render: bool = False) -> IsaacGymVec:
        """Start a server with `rows` environments. See `IsaacGymEnv.make`.

        Raises:
            UserError: its observations or actions are not those of the re-creation, on which a policy can be tested.
        """
        made = self.env.make(rows, threads, render)
        (group,), task = made.spec.groups, self.recreation
        found, wanted = _widths(group), _widths(GroupSpec(rows, task.actor, task.critic, task.action))
        if found != wanted:
            made.close()
            raise UserError(
                f"Isaac Gym's {self.env.task} has {found}, but its launcher {wanted}: install release 1.5.1 of "
                f"{INSTALLED}, or give the task a launcher of its own (docs/isaacgym.md)."
            )
        if render:  # a model is built for its pace alone
            pace = 1 / (task.model().opt.timestep * task.substeps)
            made.spec = dataclasses.replace(made.spec, steps_per_second=pace)
        return made


def original(experiment: Experiment, python: str, device: str) -> Original:
    """Isaac Gym's task behind a launcher.

    Args:
        python: the interpreter that has Isaac Gym; that of $ISAACGYM_PYTHON when empty.
        device: where it is simulated, "cpu" or "cuda:N".
    Raises:
        UserError: isaacgymenvs has no such task, it does not know a setting, or there is no such interpreter.
    """
    if experiment.name not in TASKS:
        raise UserError(
            f"--simulator isaacgym: Isaac Gym has no task of {experiment.name or 'this experiment'}, only those of "
            f"{', '.join(TASKS)}."
        )
    launcher = registry.build(experiment.name)
    changed = differences(*({"env.task": to_plain(one.env.task)} for one in (launcher, experiment)))
    if changed:
        raise UserError(
            f"--simulator isaacgym trains on Isaac Gym's own task, which has its own settings: leave out "
            f"{'; '.join(changed)}."
        )
    named = os.environ.get(VARIABLE, "")
    found = interpreter(python or named, VARIABLE if named and not python else FLAG)
    return Original(IsaacGymEnv(TASKS[experiment.name], found, device), experiment.env.task)


def _widths(group: GroupSpec) -> str:
    """What networks are made for, in words."""

    def count(parts: tuple[TensorSpec, ...]) -> str:
        return " + ".join("x".join(map(str, part.shape)) for part in parts)

    return f"observations of {count(group.actor)} (critic {count(group.critic)}) and {group.action.columns} actions"
