"""A task's functions as one graph: what a compiler can fuse, from the controls to the start of the next episode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from isaac_tasks import HANDS, ROBOTS, HeldDraw, exact
from torch import Tensor
from torch.utils._pytree import tree_leaves

from environments.tasks.ant import Ant
from environments.tasks.humanoid import Humanoid
from environments.tasks.isaac_crazyflie import IsaacCrazyflie
from environments.tasks.isaac_ingenuity import IsaacIngenuity
from environments.tasks.isaac_quadcopter import IsaacQuadcopter
from ppo_and_friends.vector.sim.task_env import TaskEnv

TASKS = [task_class() for task_class in (Ant, Humanoid, *ROBOTS, IsaacCrazyflie, IsaacIngenuity, IsaacQuadcopter)]


@pytest.mark.parametrize("task", [*TASKS, *HANDS.values()], ids=lambda task: task.name)
def test_a_round_is_one_graph(task: Any) -> None:
    """The same numbers, and the same state, as without a compiler."""
    action = torch.linspace(-0.4, 0.4, 3 * task.action.columns).view(3, -1)
    rows = torch.tensor([True, False, True])

    def a_round(env: TaskEnv) -> list[Tensor]:
        sim, memory = env.sim, env._memory
        task.apply(sim, memory, action)
        judged = task.reward_done(sim, memory, action)
        ended = task.observe(sim, memory)
        draw: Any = HeldDraw(sim)
        task.reset(sim, memory, rows, draw)
        written = [sim.bind(field) for field in ("qpos", "qvel", "ctrl")]
        return tree_leaves((judged, ended, task.observe(sim, memory), written, memory))

    torch._dynamo.reset()
    expected = a_round(_stepped(task))
    got = torch.compile(a_round, fullgraph=True, backend="eager")(_stepped(task))
    assert len(got) == len(expected) > 5
    assert all(torch.allclose(one, other) for one, other in zip(got, expected, strict=True))


def _stepped(task: Any) -> TaskEnv:
    env = exact(task, 3)
    env.step((torch.full((3, task.action.columns), 0.1),))
    return env
