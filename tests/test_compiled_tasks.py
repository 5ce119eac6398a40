"""A task's functions as one graph: what a compiler can fuse, from the controls to the start of the next episode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from isaac_tasks import HANDS, ROBOTS, HeldDraw, exact
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._pytree import tree_leaves
from worlds import device_env, random_actions

from environments.tasks.ant import Ant
from environments.tasks.humanoid import Humanoid
from environments.tasks.isaac_crazyflie import IsaacCrazyflie
from environments.tasks.isaac_ingenuity import IsaacIngenuity
from environments.tasks.isaac_quadcopter import IsaacQuadcopter
from environments.tasks.swimmer import Swimmer
from ppo_and_friends.accelerate import Fused
from ppo_and_friends.vector.sim.randomize import Randomized, Vary
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


@pytest.mark.parametrize("task", [Ant(), Swimmer(), HANDS["openai"]], ids=lambda task: task.name)
def test_steps_of_compiled_maths_are_those_without(task: Any) -> None:
    """With all but the last stage of the compiler, which writes machine code."""
    told: list[str] = []
    compiler = CompileCounterWithBackend("aot_eager")
    plain, other = device_env(replace(task), 4), device_env(replace(task), 4)  # which keep nothing of earlier tests
    other.replace_maths(lambda function: Fused(function, told.append, backend=compiler))
    torch._dynamo.reset()
    with torch.no_grad():
        assert torch.equal(*(tree_leaves(env.reset(1)[0].actor)[0] for env in (plain, other)))
        ended = 0
        for number, action in enumerate(random_actions(task, 4, 6)):
            if number == 3:
                for env in (plain, other):
                    env._clock += task.max_episode_steps - 5  # their time is up in the last steps
            step, same = plain.step((action,))[0], other.step((action,))[0]
            assert all(torch.equal(one, two) for one, two in zip(tree_leaves(step), tree_leaves(same), strict=True))
            ended += int(step.truncated.sum())
    assert ended == 4 and told == [] and compiler.frame_count == 3


def test_what_cannot_be_compiled_runs_as_it_is() -> None:
    told: list[str] = []
    env = device_env(Randomized(Swimmer(), worlds=(Vary(quantity="mass", range=(1.0, 2.0)),)), 2)
    env.replace_maths(lambda function: Fused(function, told.append))
    env.reset(0)
    step = env.step((torch.zeros(2, 2),))[0]
    assert step.active.all()
    assert len(told) == 1 and told[0].startswith("The task is not compiled and runs as it is: ")


def test_more_environments_than_a_compiler_keeps_apart_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)
    torch._dynamo.reset()
    told: list[str] = []
    envs = [device_env(Swimmer(), rows) for rows in (1, 2, 3)]
    for env in envs:
        env.replace_maths(lambda function: Fused(function, told.append, backend="eager"))
        env.reset(0)
    for _ in range(2):
        assert all(env.step((torch.zeros(env.sim.rows, 2),))[0].active.all() for env in envs)
    assert told and all("as it is: " in line for line in told)
