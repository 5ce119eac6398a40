"""Each interface's ends, time-outs and resets, step by step against numbers followed by hand."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode
from tensor_toys import LabEnv, RslRlEnv, TorchVector, VecTask, actions
from toys import experiment

from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import Spec, Step
from ppo_and_friends.vector.tensor_env import TensorEnv, TensorVec
from ppo_and_friends.vector.tensor_interfaces import action_space


def vec(env: Any, **settings: Any) -> TensorVec:
    return TensorEnv(factory=lambda rows, device: env, device="cpu", **settings).make(env.num_envs)


def numbers(step: Step) -> tuple[list[float], ...]:
    """(observation, final observation, reward, terminated, truncated, active) of every row."""
    assert isinstance(step.obs.actor, torch.Tensor) and isinstance(step.final.actor, torch.Tensor)
    parts = step.obs.actor[:, 0], step.final.actor[:, 0], *step[2:6]
    return tuple(part.tolist() for part in parts)


def follow(env: TensorVec, steps: int, fall: tuple[int, int] | None = None) -> list[tuple[list[float], ...]]:
    """Steps in which row `fall[1]` falls in step `fall[0]` (from 1)."""
    return [
        numbers(env.step(actions(env.rows, *([fall[1]] if fall and step == fall[0] else [])))[0])
        for step in range(1, steps + 1)
    ]


def test_isaac_gym_resets_after_the_next_steps_physics() -> None:
    env = vec(VecTask(2))
    (first,) = env.reset(3)
    assert isinstance(first.actor, torch.Tensor) and first.actor.tolist() == [[0.0], [0.0]]
    seen = follow(env, 7, fall=(2, 1))
    no, yes = [False, False], [True, True]
    assert seen[0] == ([1, 1], [1, 1], [1, 1], no, no, yes)
    assert seen[1] == ([2, 2], [2, 2], [2, 2], [False, True], no, yes)  # the true last observation
    assert seen[2] == ([3, 100], [3, 100], [3, 100], no, no, [True, False])  # the reset: nobody's step
    assert seen[3] == ([4, 101], [4, 101], [4, 101], no, no, yes)
    assert seen[4] == ([5, 102], [5, 102], [5, 102], no, [True, False], yes)
    assert seen[5] == ([100, 103], [100, 103], [100, 103], no, no, [False, True])
    assert seen[6] == ([101, 104], [101, 104], [101, 104], no, no, yes)


def test_isaac_gym_resets_before_the_next_steps_physics() -> None:
    env = vec(VecTask(1, "before"))
    (first,) = env.reset(3)
    assert first.actor[0, 0] == 1  # type: ignore[call-overload]
    seen = follow(env, 6)
    assert seen[3] == ([5], [5], [5], [False], [True], [True])
    assert seen[4] == ([101], [101], [101], [False], [False], [False])
    assert seen[5] == ([102], [102], [102], [False], [False], [True])


def test_a_row_that_isaac_gym_reset_at_once_waits_for_nothing() -> None:
    """Its counter is 0 with the flag; its own time-out is lost, and so is its last observation."""
    env = vec(VecTask(1, "at once"))
    (first,) = env.reset(3)
    assert first.actor[0, 0] == 0  # type: ignore[call-overload]
    seen = follow(env, 6)
    assert seen[4] == ([100], [4], [5], [True], [False], [True])
    assert seen[5] == ([101], [101], [101], [False], [False], [True])


@pytest.mark.parametrize("order", ["after", "before", "at once"])
def test_isaac_gyms_reset_ends_episodes_that_are_under_way(order: str) -> None:
    env = vec(VecTask(2, order))
    env.reset(3)
    follow(env, 2)
    torch.manual_seed(0)
    (again,) = env.reset(4)
    drawn = torch.rand(1)
    assert again.actor[:, 0].tolist() == [100 + (order == "before")] * 2  # type: ignore[call-overload]
    assert again.critic[0].tolist() == [again.actor[0, 0], -again.actor[0, 0]]  # type: ignore[call-overload, index]
    assert follow(env, 1)[0][-1] == [True, True]
    torch.manual_seed(4)
    assert torch.equal(drawn, torch.rand(1))


def test_a_reset_forgets_the_episodes_before_it() -> None:
    """What was acted in before it, and who was to wait."""
    lab, lagging = vec(LabEnv(1)), LabEnv(1)
    lab.reset(3)
    follow(lab, 3)
    lab.reset(3)
    assert follow(lab, 1, fall=(1, 0))[0] == ([100], [0], [1], [True], [False], [True])
    lagging.metadata = {"autoreset_mode": "NEXT_STEP"}  # type: ignore[attr-defined]
    waiting = vec(lagging)
    waiting.reset(3)
    assert follow(waiting, 2, fall=(1, 0))[-1][-1] == [False]
    follow(waiting, 1, fall=(1, 0))
    waiting.reset(3)
    assert follow(waiting, 1)[0][-1] == [True]


@pytest.mark.parametrize("make", [LabEnv, RslRlEnv])
def test_a_reset_in_the_same_step_leaves_the_observation_acted_in(make: type) -> None:
    env = vec(make(2))
    env.reset(3)
    seen = follow(env, 6, fall=(2, 1))
    no, yes = [False, False], [True, True]
    assert seen[0] == ([1, 1], [1, 1], [1, 1], no, no, yes)
    assert seen[1] == ([2, 100], [2, 1], [2, 2], [False, True], no, yes)
    assert seen[2] == ([3, 101], [3, 101], [3, 101], no, no, yes)
    assert seen[4] == ([100, 103], [4, 103], [5, 103], no, [True, False], yes)
    assert seen[5] == ([101, 104], [101, 104], [101, 104], no, no, yes)


@pytest.mark.parametrize("env", [LabEnv(1, finite=True), RslRlEnv(1, finite=True)])
def test_a_time_limit_that_belongs_to_the_task_is_a_true_end(env: Any) -> None:
    adapted = vec(env)
    adapted.reset(3)
    assert follow(adapted, 5)[-1][3:] == ([True], [False], [True])


@pytest.mark.parametrize("name", ["final_obs", "final_observation"])
def test_last_observations_in_the_extras_are_used(name: str) -> None:
    class Telling(LabEnv):
        def step(self, given: torch.Tensor) -> Any:
            before = self.rows.age + 100 * self.rows.episode
            last = (before + 1).float().unsqueeze(1)
            self.extras[name] = {"policy": last, "critic": last.repeat(1, 2)}
            return super().step(given)

    env = vec(Telling(2))
    env.reset(3)
    follow(env, 1, fall=(1, 1))
    seen = follow(env, 4)
    assert seen[2] == ([4, 103], [4, 103], [4, 103], [False] * 2, [False] * 2, [True] * 2)
    assert seen[3][:2] == ([100, 104], [5, 104])


def test_a_wrapper_that_passes_little_on_is_looked_through() -> None:
    """As gymnasium.make gives Isaac Lab's tasks: attributes are those of `unwrapped`."""
    lab = LabEnv(2, finite=True)
    env = TensorEnv(factory=lambda rows, device: SimpleNamespace(unwrapped=lab, reset=lab.reset, step=lab.step))
    wrapped = env.make(2)
    wrapped.reset(3)
    assert wrapped.spec.task == "LabEnv"
    assert follow(wrapped, 5)[-1] == ([100] * 2, [4] * 2, [5] * 2, [True] * 2, [False] * 2, [True] * 2)


def test_seeds_reach_what_takes_them() -> None:
    lab, rsl = LabEnv(1), RslRlEnv(1)
    vec(lab).reset(7)
    assert lab.seed == 7
    adapted = vec(rsl)
    follow(adapted, 2)
    (going_on,) = adapted.reset(7)  # the interface knows no reset
    assert going_on.actor[0, 0] == 2  # type: ignore[call-overload]
    calls: list[Any] = []
    rsl.seed, rsl.reset = calls.append, lambda: (calls.append("reset"), rsl.env.reset())  # type: ignore[attr-defined]
    (anew,) = adapted.reset(8)
    assert calls == [8, "reset"] and anew.actor[0, 0] == 0  # type: ignore[call-overload]


def test_what_is_drawn_while_it_is_made_follows_the_seed() -> None:
    def drawn(seed: int) -> list[float]:
        draws: list[float] = []

        def make(rows: int, device: str) -> LabEnv:
            draws.extend((random.random(), np.random.rand(), float(torch.rand(1))))
            return LabEnv(rows)

        PPO(experiment(TensorEnv(factory=make, device="cpu")), RunConfig(random_seed=seed))
        return draws

    assert drawn(1) == drawn(1)
    assert not set(drawn(1)) & set(drawn(2))


def test_pictures_move_at_the_environments_own_pace() -> None:
    lab = LabEnv(2)
    assert vec(lab).spec.steps_per_second == Spec.steps_per_second
    lab.metadata = {"render_fps": 50.0}  # type: ignore[attr-defined]
    assert vec(lab).spec.steps_per_second == 50


def test_a_seed_that_is_a_number_seeds_nothing() -> None:
    rsl = RslRlEnv(1)
    rsl.seed = 42  # type: ignore[attr-defined]
    torch.manual_seed(7)
    drawn = torch.rand(1)
    vec(rsl).reset(7)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_own_vectors_as_tensors(mode: AutoresetMode) -> None:
    env = vec(TorchVector(gymnasium.make_vec("CartPole-v1", 3, "sync", vector_kwargs={"autoreset_mode": mode})))
    assert env.spec.groups[0].action.kind == "discrete" and env.spec.groups[0].action.sizes == (2,)
    env.reset(0)
    ended = torch.zeros(3, dtype=torch.bool)
    for count in range(40):
        (step,) = env.step((torch.ones(3, 1, dtype=torch.int64),))
        lags = mode == AutoresetMode.NEXT_STEP
        assert torch.equal(step.active, ~(ended & lags)), count
        assert torch.equal(step.reward, step.active.float())
        ended = step.terminated.clone()
    assert bool(env.step((torch.ones(3, 1, dtype=torch.int64),))[0].obs.actor[:, 0].abs().max() < 2.4)  # type: ignore[call-overload]


def test_what_does_not_reset_by_itself_is_refused() -> None:
    disabled = {"autoreset_mode": AutoresetMode.DISABLED}
    for env in (TorchVector(gymnasium.make_vec("CartPole-v1", 2, "sync", vector_kwargs=disabled)), LabEnv(2)):
        if isinstance(env, LabEnv):
            env.cfg.auto_reset = False
        with pytest.raises(UserError, match="leaves ended rows as they are"):
            vec(env)


@pytest.mark.parametrize("interface", ["auto", "rsl_rl"])
def test_an_object_without_an_interface_is_told_what_was_looked_for(interface: Any) -> None:
    with pytest.raises(UserError) as caught:
        vec(LabEnv(2) if interface == "rsl_rl" else SimpleNamespace(num_envs=2), interface=interface)
    told = str(caught.value)
    assert "rsl_rl (it lacks" in told and "num_actions, get_observations" in told
    assert ("single_action_space" in told and "progress_buf" in told) == (interface == "auto")


def test_action_spaces() -> None:
    box = type("Box", (), {"shape": (2,), "low": -1.0, "high": (1.0, 2.0)})()  # mjlab's
    assert action_space(box, "it").low == (-1.0, -1.0) and action_space(box, "it").high == (1.0, 2.0)
    assert action_space(MultiDiscrete([3, 2]), "it").sizes == (3, 2)
    assert action_space(Discrete(3), "it").kind == "discrete"
    with pytest.raises(UserError, match="takes actions from MultiBinary"):
        action_space(MultiBinary(3), "it")
    assert np.isinf(action_space(LabEnv(1).single_action_space, "it").low).all()
