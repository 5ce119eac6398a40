"""A task on an engine of a device: nothing waits for it, bad rows are masked and counted, rows start anew in place."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium_tasks import TASKS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toys import experiment
from worlds import device_env, random_actions

from environments.tasks.half_cheetah import HalfCheetah
from environments.tasks.inverted_double_pendulum import InvertedDoublePendulum
from environments.tasks.inverted_pendulum import InvertedPendulum
from ppo_and_friends.checkpoint import read_state
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import Obs, Step
from ppo_and_friends.vector.base import EnvConfig, VecEnv
from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv

aten = torch.ops.aten
ROWS, SEED = 4, 5
CARRYING = ("tolist", "numpy", "cpu")  # from a CPU's tensor, they are no operation
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
WAITING = (
    aten._local_scalar_dense.default,  # item, bool, int, float
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_fill.Tensor,  # reads its value
    aten.masked_fill_.Tensor,
)


def vector(obs: Obs) -> Tensor:
    assert isinstance(obs.actor, Tensor)
    return obs.actor


def begun(task: Any, rows: int = ROWS) -> DeviceTaskEnv:
    env = device_env(task, rows)
    env.reset(SEED)
    return env


def run(env: DeviceTaskEnv, actions: Tensor) -> list[Step]:
    return [env.step((action,))[0] for action in actions]


def assert_equal(one: Step, other: Step, rows: slice | list[int] = slice(None)) -> None:
    for key in ("reward", "terminated", "truncated", "active"):
        assert torch.equal(getattr(one, key)[rows], getattr(other, key)[rows]), key
    for key in ("obs", "final"):
        assert torch.equal(getattr(one, key).actor[rows], getattr(other, key).actor[rows]), key


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("the host would wait for the device here")


class NoWaiting(TorchDispatchMode):
    """Operations that bring a number to the host raise, also inside others: their shape depends on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        by_mask = func in INDEXING and any(part is not None and part.dtype == torch.bool for part in args[1])
        if by_mask or func in WAITING:
            refuse()
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What would bring a number to the host raises."""
    with monkeypatch.context() as patch, NoWaiting():
        for name in CARRYING:
            patch.setattr(Tensor, name, refuse)
        yield


@pytest.mark.parametrize("task_class", TASKS, ids=lambda task_class: task_class.__name__)
def test_no_step_waits_for_the_device(task_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_class(max_episode_steps=3)
    env = begun(task)
    actions = random_actions(task, ROWS, 5)
    run(env, actions[:1])  # loads kernels
    with no_waiting(monkeypatch):
        steps = run(env, actions[1:])
    assert steps[1].truncated.all() and not steps[2].truncated.any()
    assert steps[0].reward.dtype == vector(steps[0].obs).dtype == torch.float32


@pytest.mark.parametrize(
    "waits",
    [
        lambda values: bool(values.any()),
        lambda values: values[0].item(),
        lambda values: values[values > 0],
        lambda values: (values > 0).nonzero(),
        lambda values: values.masked_fill_(values > 0, values.sum()),
        lambda values: values.tolist(),
    ],
)
def test_what_waits_would_be_seen(waits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    with no_waiting(monkeypatch), pytest.raises(AssertionError, match="would wait"):
        waits(torch.ones(3))


def test_it_is_a_vec_env() -> None:
    env = device_env(HalfCheetah(), ROWS)
    assert isinstance(env, VecEnv)
    group = env.spec.groups[0]
    assert (group.rows, group.actor[0].shape, group.symmetric) == (ROWS, (17,), True)
    assert (env.spec.task, env.spec.engine, env.spec.device.type) == (env.task.name, "test", "cpu")


def test_seed_decides_and_rows_differ() -> None:
    env = device_env(InvertedPendulum(), ROWS)
    first, other, again = (vector(env.reset(seed)[0]) for seed in (SEED, SEED + 1, SEED))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique(dim=0)) == ROWS and first.abs().max() <= 0.01


def test_rows_are_cut_each_in_its_time() -> None:
    task = InvertedPendulum(max_episode_steps=4)
    env = begun(task)
    still = torch.zeros(8, ROWS, 1)
    env.sim.bind("qpos")[1, 1] = 1.0  # has fallen, and ends in the first step
    steps = run(env, still)
    assert [step.terminated.tolist() for step in steps[:2]] == [[False, True, False, False], [False] * 4]
    ends = torch.stack([step.truncated for step in steps]).T
    assert [row.nonzero()[:, 0].tolist() for row in ends] == [[3, 7], [4], [3, 7], [3, 7]]
    first = steps[0]
    cut = first.terminated | first.truncated
    assert torch.equal(vector(first.obs)[~cut], vector(first.final)[~cut])
    assert vector(first.final)[1, 1] > 0.9 and vector(first.obs)[1].abs().max() <= 0.01
    assert first.active.all() and not first.log["simulation_failures"].any()


@pytest.mark.parametrize(("field", "value"), [("qvel", torch.nan), ("qpos", torch.inf), ("qvel", 3e3)])
def test_unstable_row_is_masked_reset_and_counted(field: str, value: float) -> None:
    task = HalfCheetah()
    env, twin = begun(task), begun(task)
    actions = random_actions(task, ROWS, 3)
    run(env, actions[:1])
    run(twin, actions[:1])
    env.sim.bind(field)[2, 0] = value
    (bad, after), expected = run(env, actions[1:]), run(twin, actions[1:])
    well = [0, 1, 3]
    assert bad.active.tolist() == [True, True, False, True] and bad.terminated.tolist() == [False, False, True, False]
    assert bad.log["simulation_failures"].tolist() == [0, 0, 1, 0]
    assert not vector(bad.final)[2].any() and bad.reward[2] == 0
    assert all(values.isfinite().all() for values in bad.log.values())
    assert vector(bad.obs).isfinite().all() and vector(bad.obs)[2].abs().max() < 1  # a new start
    assert_equal(bad, expected[0], well)
    assert_equal(after, expected[1], well)
    assert after.active.all() and vector(after.final).isfinite().all()


def test_reward_that_is_not_finite_is_a_failure() -> None:
    task = HalfCheetah(forward_reward_weight=float("inf"))
    (step,) = run(begun(task), random_actions(task, ROWS, 1))
    assert not step.active.any() and step.log["simulation_failures"].all() and not step.reward.any()


def test_a_reset_that_draws_more_than_at_first_is_refused() -> None:
    env = device_env(InvertedPendulum(), 2)
    env._chance._uniform = torch.zeros(2, 1)
    with pytest.raises(UserError, match="draws more numbers than at first"):
        env.reset(0)


def test_state_continues_in_a_fresh_environment() -> None:
    task = InvertedDoublePendulum(max_episode_steps=7)
    env, fresh = begun(task), device_env(task, ROWS)
    actions = random_actions(task, ROWS, 20)
    run(env, actions[:9])
    file = io.BytesIO()
    torch.save(env.state(), file)
    expected = run(env, actions[9:])
    assert any(step.truncated.any() for step in expected)
    file.seek(0)
    fresh.load_state(torch.load(file, weights_only=True))
    for one, other in zip(run(fresh, actions[9:]), expected, strict=True):
        assert_equal(one, other)
    with pytest.raises(UserError, match="4 rows and this environment 2"):
        device_env(task, 2).load_state(env.state())


@dataclass(frozen=True)
class OnDevice:
    """An `EnvConfig`."""

    task: Any

    def make(self, rows: int, threads: int = 1, render: bool = False) -> DeviceTaskEnv:
        return device_env(self.task, rows)


def test_ppo_trains_on_it_and_resumes_exactly(tmp_path: Path) -> None:
    config = OnDevice(InvertedPendulum(max_episode_steps=10))
    assert isinstance(config, EnvConfig)
    trained = replace(experiment(config), num_timesteps=10**6)
    ppo = PPO(trained)
    assert ppo.iterate()["episodes"] > 0
    ppo.save(tmp_path / "state.pt")
    expected = ppo.iterate()
    resumed = PPO(trained)
    state = read_state(tmp_path / "state.pt")
    resumed.load_shared_state(state["shared"])
    assert resumed.load_own_state(state["ranks"][0])
    assert resumed.iterate()["mean_return"] == expected["mean_return"]
    mine, theirs = (each.groups[0].net.state_dict() for each in (ppo, resumed))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
