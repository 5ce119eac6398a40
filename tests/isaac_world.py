"""One Isaac task on the CPU engine, whose state tests write directly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from environments.tasks.isaac_ant import IsaacAnt
from environments.tasks.isaac_anymal import IsaacAnymal
from environments.tasks.isaac_ball_balance import IsaacBallBalance
from environments.tasks.isaac_cartpole import IsaacCartpole
from environments.tasks.isaac_humanoid import IsaacHumanoid
from ppo_and_friends.vector.sim.task_env import TaskEnv, choose_gl_backend

choose_gl_backend()

from ppo_and_friends.vector.sim.batch_cpu import BatchSim  # after choose_gl_backend: it imports mujoco

TASKS = (IsaacCartpole, IsaacAnt, IsaacHumanoid, IsaacBallBalance, IsaacAnymal)


class World:
    """One task in float64, whose state is written directly."""

    def __init__(self, task: Any, rows: int = 1) -> None:
        self.task, self.sim = task, BatchSim(task.model(), rows, 1, task.name)
        self.env = TaskEnv(task, self.sim, "test", torch.float64)
        self.memory = self.env._memory
        self.env.reset(3)

    def set(self, field: str, values: Any, start: int = 0) -> None:
        values = torch.as_tensor(values, dtype=torch.float64)
        self.sim.bind(field)[:, start : start + len(values)] = values

    def seen(self) -> Tensor:
        actor = self.task.observe(self.sim, self.memory).actor
        assert isinstance(actor, Tensor)
        return actor[0]

    def outcome(self) -> tuple[float, bool, dict[str, Tensor]]:
        reward, ended, log = self.task.reward_done(self.sim, self.memory, self.memory["action"])
        return float(reward[0]), bool(ended[0]), log

    def step(self, action: Any, times: int = 1) -> Any:
        action = torch.as_tensor(action, dtype=torch.float32).expand(self.sim.rows, self.task.actions)
        return [self.env.step((action,))[0] for _ in range(times)][-1]

    def joint(self, name: str) -> int:
        """Its place among the joints that actions move."""
        model = self.task.model()
        names = [model.joint(model.actuator_trnid[i, 0]).name for i in range(model.nu)]
        return names.index(name)


def assert_near(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    actual, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)
