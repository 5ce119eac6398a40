"""The Isaac tasks as tasks: finite, resumable, empty at a start, in any precision, without waiting for the host."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
import torch
from isaac_tasks import ROBOTS, World, assert_near
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.task_env import SimEnv, TaskEnv

each_task = pytest.mark.parametrize("task_class", ROBOTS, ids=lambda task_class: task_class.__name__)


@each_task
def test_random_run_stays_finite_and_resumes_exactly(task_class: Any) -> None:
    task = task_class(max_episode_steps=40)
    env = World(task, 4).env
    generator = torch.Generator().manual_seed(0)
    recorded = 2 * torch.rand(90, 4, task.actions, generator=generator) - 1

    def run(env: TaskEnv, actions: Tensor) -> list[Any]:
        return [env.step((action,))[0] for action in actions]

    steps = run(env, recorded[:50])
    file = io.BytesIO()
    torch.save(env.state(), file)
    expected = run(env, recorded[50:])
    steps += expected
    assert all(torch.isfinite(step.final.actor).all() and torch.isfinite(step.reward).all() for step in steps)
    assert any((step.truncated | step.terminated).any() for step in steps)
    file.seek(0)
    fresh = World(task, 4).env
    fresh.load_state(torch.load(file, weights_only=True))
    for ours, theirs in zip(run(fresh, recorded[50:]), expected, strict=True):
        assert torch.equal(ours.obs.actor, theirs.obs.actor) and torch.equal(ours.reward, theirs.reward)


@each_task
def test_an_episode_starts_with_an_empty_memory(task_class: Any) -> None:
    task = task_class(max_episode_steps=20)
    world = World(task, 3)
    step = world.step([0.05] * task.actions, 20)
    assert step.truncated.all() and not torch.equal(step.obs.actor, step.final.actor)
    assert not world.memory["action"].any() and not world.memory["stepped"].any()
    assert (step.obs.critic is step.obs.actor) and step.obs.actor.shape == (3, task.observations)
    assert step.obs.mask.shape == (3, 0)


class NoSynchronisation(TorchDispatchMode):
    """Refuses what would make a GPU wait for the host, or shapes depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [part for part in args[1] if part is not None] if name in ("index", "index_put", "index_put_") else []
        masked = any(part.dtype == torch.bool for part in masks)
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select") and not masked, name
        return func(*args, **(kwargs or {}))


class Single:
    """The same worlds in float32, for tasks that are not stepped."""

    def __init__(self, sim: BatchSim) -> None:
        self.rows, self.device, self.dtype = sim.rows, sim.device, torch.float32
        self._sim, self._fields = sim, {}

    def bind(self, field: str) -> Tensor:
        return self._fields.setdefault(field, self._sim.bind(field).float())


class Uniform:
    """`Draw` without a loop over rows."""

    def __init__(self, sim: Any) -> None:
        self.sim = sim

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        return torch.empty(self.sim.rows, size, dtype=self.sim.dtype).uniform_(low, high)


@each_task
def test_single_precision_without_synchronisation(task_class: Any) -> None:
    world = World(task_class(), 5)
    task, action = world.task, torch.full((5, task_class.actions), 0.3)
    world.step(action, 10)
    single: Any = Single(world.sim)
    memory = {
        name: tensor.float() if tensor.is_floating_point() else tensor.clone() for name, tensor in world.memory.items()
    }
    seen, (reward, ended, log) = task.observe(single, memory), task.reward_done(single, memory, action)
    assert seen.actor.dtype == reward.dtype == torch.float32 and {term.dtype for term in log.values()} <= {reward.dtype}
    assert_near(seen.actor, world.task.observe(world.sim, world.memory).actor.float(), 1e-4)
    assert_near(reward, world.task.reward_done(world.sim, world.memory, action)[0].float(), 1e-3)
    assert ended.dtype == torch.bool
    rows = torch.tensor([True, False, True, False, False])
    before = [single.bind(field).clone() for field in ("qpos", "qvel")]
    with NoSynchronisation():
        task.apply(single, memory, action)
        task.reward_done(single, memory, action)
        task.observe(single, memory)
        remembered = {name: tensor.clone() for name, tensor in memory.items()}
        task.reset(single, memory, rows, Uniform(single))
    for old, field in zip(before, ("qpos", "qvel"), strict=True):
        changed = (single.bind(field) != old).any(1)
        assert torch.equal(changed, rows)
    assert all(torch.equal(memory[name][~rows], tensor[~rows]) for name, tensor in remembered.items())
    assert all(tensor.dtype in (torch.float32, torch.bool) for tensor in memory.values())


@pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="draws without a window only")
@each_task
def test_frame_is_a_picture(task_class: Any) -> None:
    env = SimEnv(task_class()).make(1, render=True)
    env.reset(0)
    picture = env.frame(0)
    env.close()
    assert picture.shape == (480, 480, 3) and picture.std() > 10
