"""MuJoCo tasks on the CPU engine, beside Gymnasium's own environments: equal to the last bit."""

from __future__ import annotations

import io
import os
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium_tasks import TASKS

from environments.tasks.ant import Ant
from environments.tasks.common import sum_columns
from environments.tasks.half_cheetah import HalfCheetah
from environments.tasks.hopper import Hopper
from environments.tasks.humanoid import Humanoid
from environments.tasks.humanoid_standup import HumanoidStandup
from environments.tasks.inverted_double_pendulum import InvertedDoublePendulum
from environments.tasks.inverted_pendulum import InvertedPendulum
from environments.tasks.swimmer import Swimmer
from environments.tasks.walker2d import Walker2d
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.types import Obs, Step
from ppo_and_friends.vector.base import EnvConfig, VecEnv
from ppo_and_friends.vector.sim.task_env import SimEnv, TaskEnv, choose_gl_backend

choose_gl_backend()

from ppo_and_friends.vector.sim.batch_cpu import BatchSim  # after choose_gl_backend: it imports mujoco

each_task = pytest.mark.parametrize("task_class", TASKS, ids=lambda task_class: task_class.__name__)
ROWS, SEED = 2, 5


pytestmark = pytest.mark.usefixtures("elsewhere")


def exact(task: Any, rows: int = ROWS, threads: int = 1) -> TaskEnv:
    """An environment that shows float64."""
    return TaskEnv(task, BatchSim(task.model(), rows, threads, task.name), "test", torch.float64)


def actions(env: TaskEnv, steps: int, seed: int = 0) -> torch.Tensor:
    space = env.spec.groups[0].action
    low, high = torch.tensor(space.low), torch.tensor(space.high)
    noise = torch.rand(steps, env.sim.rows, len(space.low), generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * noise


def seen(obs: Obs) -> torch.Tensor:
    assert isinstance(obs.actor, torch.Tensor)
    return obs.actor


def run(env: TaskEnv, recorded: torch.Tensor) -> list[Step]:
    return [env.step((action,))[0] for action in recorded]


def assert_equal_steps(ours: list[Step], theirs: list[Step]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for key in ("reward", "terminated", "truncated"):
            assert torch.equal(getattr(one, key), getattr(other, key))
        for key in ("obs", "final"):
            assert torch.equal(getattr(one, key).actor, getattr(other, key).actor)


def assert_equals_gymnasium(task: Any, steps: int, **settings: Any) -> int:
    """Step both with the same actions; the number of episodes that ended."""
    env = exact(task)
    name = type(task).__name__ + "-v5"
    # Gymnasium squares this one's numbers with libm's pow(x, 2), which is off by a bit once in a thousand
    inexact = 4e-15 if isinstance(task, InvertedDoublePendulum) else 0.0
    gyms = [gymnasium.make(name, max_episode_steps=task.max_episode_steps, **settings) for _ in range(ROWS)]
    (obs,) = env.reset(SEED)
    start = [gym.reset(seed=SEED + (row << 32))[0] for row, gym in enumerate(gyms)]
    assert torch.equal(seen(obs), torch.from_numpy(np.stack(start)))
    space = gyms[0].action_space
    group = env.spec.groups[0]
    assert isinstance(space, gymnasium.spaces.Box)
    assert (group.action.low, group.action.high) == (tuple(space.low.tolist()), tuple(space.high.tolist()))
    assert group.actor[0].shape == gyms[0].observation_space.shape
    ended = 0
    for action in actions(env, steps):
        (step,) = env.step((action,))
        for row, gym in enumerate(gyms):
            observation, reward, terminated, truncated, info = gym.step(action[row].numpy())
            assert torch.equal(seen(step.final)[row], torch.from_numpy(observation))
            assert abs(float(step.reward[row]) - float(reward)) <= inexact
            assert (bool(step.terminated[row]), bool(step.truncated[row])) == (terminated, truncated)
            for key in step.log.keys() & info.keys():
                assert abs(float(step.log[key][row]) - float(info[key])) <= inexact, key
            if terminated or truncated:
                ended += 1
                observation, _ = gym.reset()
            assert torch.equal(seen(step.obs)[row], torch.from_numpy(observation))
    return ended


@each_task
def test_equals_gymnasium(task_class: Any) -> None:
    ended = assert_equals_gymnasium(task_class(max_episode_steps=120), 300)
    assert ended >= 2 * ROWS  # by the time limit, or earlier


@pytest.mark.parametrize(
    ("task_class", "settings"),
    [
        (Ant, {"include_cfrc_ext_in_observation": False, "main_body": 3, "contact_cost_weight": 0.1}),
        (Ant, {"terminate_when_unhealthy": False, "exclude_current_positions_from_observation": False}),
        (Hopper, {"healthy_state_range": (-2.0, 2.0), "terminate_when_unhealthy": False, "healthy_reward": 3.0}),
        (Humanoid, {"include_cinert_in_observation": False, "contact_cost_range": (-1.0, 0.01)}),
        (HumanoidStandup, {"include_cvel_in_observation": False, "include_qfrc_actuator_in_observation": False}),
        (Walker2d, {"forward_reward_weight": 2.0, "exclude_current_positions_from_observation": False}),
        (Swimmer, {"ctrl_cost_weight": 0.3, "exclude_current_positions_from_observation": False}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-",
)
def test_settings_mean_what_gymnasium_means(task_class: Any, settings: dict[str, Any]) -> None:
    assert_equals_gymnasium(task_class(**settings), 60, **settings)


@each_task
def test_state_continues_in_a_fresh_environment(task_class: Any) -> None:
    task = task_class(max_episode_steps=40)
    env = exact(task)
    env.reset(SEED)
    recorded = actions(env, 90)
    run(env, recorded[:25])
    file = io.BytesIO()
    torch.save(env.state(), file)
    expected = run(env, recorded[25:])
    file.seek(0)
    fresh = exact(task, threads=2)
    fresh.load_state(torch.load(file, weights_only=True))
    assert_equal_steps(run(fresh, recorded[25:]), expected)


def test_state_of_another_number_of_rows_is_refused() -> None:
    with pytest.raises(UserError, match="2 rows and this environment 3"):
        exact(Swimmer(), rows=3).load_state(exact(Swimmer(), rows=2).state())


@each_task
def test_masked_reset_leaves_other_rows_alone(task_class: Any) -> None:
    task = task_class()
    env = exact(task, rows=3)
    env.reset(SEED)
    run(env, actions(env, 8))
    before = env.sim.state()
    env.sim.reset(torch.tensor([False, True, False]))
    after, fresh = env.sim.state(), BatchSim(task.model(), 3, 1, "fresh").state()
    for row in (0, 2):
        assert torch.equal(after["integration"][row], before["integration"][row])
        for field, values in after["fields"].items():
            assert torch.equal(values[row], before["fields"][field][row]), field
    assert torch.equal(after["integration"][1], fresh["integration"][1])  # warm start, time and controls too


@pytest.mark.parametrize("field", ["qpos", "qvel", "ctrl"])
def test_bad_simulation_is_named(field: str) -> None:
    env = exact(HalfCheetah(), rows=4)
    env.reset(SEED)
    recorded = actions(env, 2)
    run(env, recorded[:1])
    if field == "ctrl":
        recorded[1, 2] = torch.nan
    else:
        env.sim.bind(field)[2] = torch.nan
    with pytest.raises(EnvironmentFailure, match=r"HalfCheetah.* row 2 .*step 2"):
        env.step((recorded[1],))
    env.reset(SEED)
    assert torch.isfinite(env.step((recorded[0],))[0].reward).all()


def test_reward_that_is_not_finite_is_named() -> None:
    env = exact(HalfCheetah(forward_reward_weight=float("inf")))
    env.reset(SEED)
    with pytest.raises(EnvironmentFailure, match="reward of row 0 is not finite in step 1"):
        env.step((actions(env, 1)[0],))


def test_derived_fields_are_bound_before_the_simulation_begins() -> None:
    env = exact(HalfCheetah())
    with pytest.raises(RuntimeError, match="cfrc_ext"):
        env.sim.bind("cfrc_ext")
    env.reset(SEED)
    with pytest.raises(RuntimeError, match="xpos"):
        env.sim.bind("xpos")


def test_final_is_obs_where_nothing_was_cut() -> None:
    env = SimEnv(HalfCheetah(max_episode_steps=3)).make(ROWS)
    env.reset(SEED)
    steps = run(env, actions(env, 3))
    assert steps[1].final is steps[1].obs
    assert not torch.equal(seen(steps[2].final), seen(steps[2].obs))
    assert steps[2].truncated.all() and not steps[2].terminated.any()
    tensors = (seen(steps[2].obs), seen(steps[2].final), steps[2].reward, *steps[2].log.values())
    assert all(tensor.dtype == torch.float32 for tensor in tensors)
    assert steps[2].obs.critic is steps[2].obs.actor and steps[2].obs.mask.shape == (ROWS, 0)


def test_configuration_is_told() -> None:
    config = SimEnv(Ant())
    env = config.make(ROWS, threads=2)
    assert isinstance(config, EnvConfig) and isinstance(env, VecEnv)
    assert (env.spec.engine, env.spec.task) == ("mujoco.batch, 2 threads", "Ant (Gymnasium v5 semantics)")
    with pytest.raises(UserError, match=r"nowhere\.xml"):
        SimEnv(Ant(xml_file="nowhere.xml")).make(1)


@pytest.mark.parametrize("columns", [1, 2, 6, 7, 8, 9, 17, 84, 127])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sum_columns_adds_as_numpy(columns: int, dtype: torch.dtype) -> None:
    values = torch.randn(50, columns, dtype=dtype, generator=torch.Generator().manual_seed(columns)).square()
    assert torch.equal(sum_columns(values), torch.stack([torch.tensor(np.sum(row.numpy())) for row in values]))


def test_another_number_of_actions_than_rows_is_refused() -> None:
    env = SimEnv(InvertedPendulum()).make(3)
    env.reset(0)
    with pytest.raises(ValueError, match=r"needs actions \[3, 1\], not \[1, 1\]"):
        env.step((torch.zeros(1, 1),))


@pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="draws without a window only")
def test_frame_is_a_picture() -> None:
    env = SimEnv(Ant()).make(ROWS, render=True)
    env.reset(SEED)
    first = env.frame(0)
    run(env, actions(env, 20))
    assert first.shape == (480, 480, 3) and first.dtype == np.uint8 and first.std() > 10
    assert (env.frame(0) != first).any() and (env.frame(0) != env.frame(1)).any()
    env.close()


@pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="draws without a window only")
def test_a_model_without_a_camera_is_seen_from_near() -> None:
    env = SimEnv(InvertedPendulum()).make(1, render=True)
    env.reset(SEED)
    frame = env.frame(0)
    env.close()
    assert env.spec.steps_per_second == 25, "two steps of 0.02 s"
    assert (frame != frame[0, 0]).any(2).mean() > 0.045  # 0.03 where the whole rail fills the picture
