"""Environments of tensors as a `VecEnv`: what is shared and what is copied, no reading by the host, PPO, bad input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensor_toys import LIMIT, LabEnv, RslRlEnv, VecTask, actions
from torch import Tensor
from toys import NET, experiment

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.vector.base import EnvConfig, VecEnv
from ppo_and_friends.vector.tensor_env import TensorEnv, TensorVec

KINDS: list[Any] = [VecTask, LabEnv, RslRlEnv]


def wrap(env: Any, **settings: Any) -> TensorVec:
    return TensorEnv(factory=lambda rows, device: env, device="cpu", **settings).make(env.num_envs)


def on_cpu(kind: Any) -> TensorEnv:
    return TensorEnv(factory=lambda rows, device: kind(rows), device="cpu")


class Fresh(LabEnv):
    """Gives new tensors every step, as `LabEnv` does not."""

    def step(self, given: Tensor) -> Any:
        obs, *values, extras = super().step(given)
        return {name: part.clone() for name, part in obs.items()}, *(value.clone() for value in values), extras


def test_steps_share_the_environments_tensors() -> None:
    lab = LabEnv(3)
    env = wrap(lab)
    (first,) = env.reset(1)
    (step,) = env.step(actions(3))
    assert first.actor is lab.rows.obs and step.obs.actor is lab.rows.obs
    assert step.reward is lab.rows.reward and step.terminated is lab.rows.falls and step.truncated is lab.rows.late


def test_rollouts_do_not_depend_on_what_the_environment_overwrites() -> None:
    def collected(kind: Any) -> Rollout:
        ppo = PPO(experiment(on_cpu(kind)))
        ppo.iterate()
        return ppo.collector.collect()[0]

    kept, fresh = collected(LabEnv), collected(Fresh)
    for mine, other in zip(kept.final[:2] + kept.obs[:2], fresh.final[:2] + fresh.obs[:2], strict=True):
        assert isinstance(mine, Tensor) and isinstance(other, Tensor) and torch.equal(mine, other)
    assert torch.equal(kept.rewards, fresh.rewards)
    obs, final = kept.obs.actor, kept.final.actor
    assert isinstance(obs, Tensor) and isinstance(final, Tensor)
    ended = kept.ended.unsqueeze(-1)
    assert bool(kept.terminated.any()) and bool(kept.truncated.any())
    assert torch.equal(final, torch.where(ended, obs[:-1], obs[1:]))


def test_the_environment_may_keep_its_actions() -> None:
    env = wrap(LabEnv(2))
    env.reset(1)
    (given,) = actions(2)
    env.step((given.fill_(0.25),))
    (step,) = env.step((given.fill_(0.5),))
    assert step.log["kept_action"].tolist() == [0.25, 0.25]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_not_read_by_the_host(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = wrap(kind(3))
    env.reset(1)
    given = [actions(3, *falls) for falls in ([], [1], [], [0, 1], [], [], [])]

    def read(*_: Any, **__: Any) -> Any:
        raise AssertionError("the host waits for the device")

    reading = ("item", "tolist", "nonzero", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
    with monkeypatch.context() as patch:
        for name in reading:
            patch.setattr(Tensor, name, read)
        steps = [env.step(action)[0] for action in given]
        with pytest.raises(AssertionError):
            bool(steps[0].terminated.any())
    assert len(steps) > LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_ppo_learns_a_rollout_of_each(kind: Any) -> None:
    ppo = PPO(experiment(on_cpu(kind), NET, rows=6))
    group = ppo.env.spec.groups[0]
    assert group.rows == 6 and not group.symmetric and group.critic[0].shape == (2,)
    metrics = [ppo.iterate() for _ in range(2)]
    assert all(np.isfinite(one["kl"]) for one in metrics) and metrics[1]["episodes"] > 6
    assert metrics[1]["mean_length"] <= LIMIT
    assert isinstance(ppo.env, VecEnv) and isinstance(ppo.experiment.env, EnvConfig)
    assert ppo.env.state() is None
    with pytest.raises(UserError, match="cannot go on from a saved state"):
        ppo.env.load_state({})


def test_steps_that_belong_to_no_episode_count_nowhere() -> None:
    """5 steps of an episode, then the reset: 16 steps hold two whole episodes, and 5 + 4 + 3 + 2 + 1 in each."""
    ppo = PPO(experiment(on_cpu(VecTask), NET, rows=2, normalize_observations=False, normalize_rewards=False))
    take = ppo.env.step
    ppo.env.step = lambda given: take((given[0] * 0,))  # type: ignore[method-assign]
    metrics = ppo.iterate()
    assert metrics["episodes"] == 4 and metrics["mean_length"] == 5
    assert metrics["mean_return"] == (15 + 15 + 5 * 100) / 2


def test_a_step_of_no_episode_ends_none() -> None:
    task = VecTask(2)
    env = wrap(task)
    env.reset(1)
    assert env.step(actions(2, 0))[0].terminated.tolist() == [True, False]
    take = task.step

    def falls(given: Tensor) -> Any:
        obs, reward, done, extras = take(given)
        return obs, reward, torch.ones_like(done), extras

    task.step = falls  # type: ignore[method-assign]
    (step,) = env.step(actions(2))
    assert step.active.tolist() == step.terminated.tolist() == [False, True]


def test_numbers_in_the_extras_are_logged() -> None:
    env = wrap(LabEnv(2))
    env.reset(1)
    log = env.step(actions(2))[0].log
    assert {name: values.tolist() for name, values in log.items()} == {
        "kept_action": [0, 0],
        "Episode_Reward/alive": [1, 1],
        "Curriculum/level": [2, 2],
    }
    task = wrap(VecTask(2))
    task.reset(1)
    assert {name: values.tolist() for name, values in task.step(actions(2))[0].log.items()} == {
        "consecutive_successes": [1, 1]
    }


class Seeing(LabEnv):
    """Three groups, one of them of terms, with a picture that has its channels last."""

    def observe(self) -> Any:
        obs = self.rows.obs
        picture = obs.to(torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 8, 6, 3)
        picture[..., 2] += 7
        return {"policy": {"pose": obs.double(), "camera": picture}, "critic": obs, "extra": obs.repeat(1, 3)}


def test_terms_become_parts_and_pictures_have_channels_first() -> None:
    env = wrap(Seeing(2), critic=("critic", "extra"))
    (group,) = env.spec.groups
    assert [(part.name, part.shape, part.dtype) for part in group.actor] == [
        ("policy.pose", (1,), torch.float32),
        ("policy.camera", (3, 8, 6), torch.uint8),
    ]
    assert [part.shape for part in group.critic] == [(1,), (3,)]
    env.reset(1)
    env.step(actions(2))
    (step,) = env.step(actions(2, 1))
    pose, camera = step.obs.actor
    assert pose.tolist() == [[2], [100]] and camera[0, 2].unique().tolist() == [9]
    assert step.final.actor[1][1, 2].unique().tolist() == [8] and step.final.critic[1][1].tolist() == [1, 1, 1]


def test_one_group_is_seen_by_both() -> None:
    class Plain(LabEnv):
        def observe(self) -> Any:
            return self.rows.obs

    class Single(LabEnv):
        def observe(self) -> Any:
            return {"anything": self.rows.obs}

    for kind in (Plain, Single):
        env = wrap(kind(2))
        (obs,) = env.reset(1)
        assert env.spec.groups[0].symmetric and obs.critic is obs.actor


def test_pictures_come_from_the_environment() -> None:
    lab = LabEnv(2)
    frames = np.arange(2)[:, None, None, None] * np.ones((2, 4, 5, 3))
    asked: dict[str, Any] = {}

    def factory(rows: int, device: str, **settings: Any) -> Any:
        asked.update(settings, rows=rows, device=device)
        return lab

    env = TensorEnv(factory=factory, kwargs={"terrain": "flat"}, device="cpu").make(2, render=True)
    assert asked == {"rows": 2, "device": "cpu", "terrain": "flat", "render_mode": "rgb_array"}
    for picture in (torch.tensor(frames), frames, frames[1]):
        lab.render = lambda given=picture: given  # type: ignore[attr-defined]
        assert env.frame(1).shape == (4, 5, 3) and env.frame(1).max() == 1
    lab.render = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="LabEnv draws nothing: let its factory pass render_mode on"):
        env.frame(0)
    env.close()


def test_each_rank_asks_for_the_gpu_of_its_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3")
    asked = []
    TensorEnv(factory=lambda rows, device: asked.append(device) or LabEnv(rows)).make(2)
    assert asked == ["cuda:1"]


def broken(what: str) -> Any:
    """A `LabEnv` that goes wrong in its second step."""

    class Broken(LabEnv):
        def step(self, given: Tensor) -> Any:
            obs, reward, *ends, extras = super().step(given)
            if self.rows.age[0] < 2:
                return obs, reward, *ends, extras
            return {
                "raises": lambda: 1 / 0,
                "four values": lambda: (obs, reward, ends[0], extras),
                "reward": lambda: (obs, reward.unsqueeze(1), *ends, extras),
                "shape": lambda: ({**obs, "policy": torch.zeros(2, 4)}, reward, *ends, extras),
                "group": lambda: ({"policy": obs["policy"]}, reward, *ends, extras),
            }[what]()

    return Broken(2)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raises", r"Broken: step raised ZeroDivisionError: division by zero \(after 1 steps\)"),
        ("four values", "Broken: step gave 4 values where its interface gives 5"),
        ("reward", r"Broken: reward is \[2, 1\], but must be a tensor of shape \[2\]"),
        ("shape", r"Broken: policy is \[2, 4\], but must be a tensor of shape \[2, 1\]"),
        ("group", r"Broken: step raised KeyError: 'critic'"),
    ],
)
def test_an_environment_that_misbehaves_is_named(what: str, said: str) -> None:
    env = wrap(broken(what))
    env.reset(1)
    env.step(actions(2))
    with pytest.raises(EnvironmentFailure, match=said):
        env.step(actions(2))


def failing(rows: int, device: str, **settings: Any) -> Any:
    if settings:
        raise ValueError("no such task")
    raise ModuleNotFoundError("No module named 'isaacgym'")


def numpy_env(rows: int, device: str) -> Any:
    space = SimpleNamespace(shape=(1,), low=-1, high=1)
    return SimpleNamespace(
        num_envs=rows, single_action_space=space, step=None, reset=lambda: (np.zeros((rows, 2)), {}), metadata={}
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"factory": failing},
            r"failing needs a package that this Python cannot import \(No module named 'isaacgym'\)",
        ),
        (
            {"factory": failing, "kwargs": {"task": 1}},
            "failing raises ValueError when made for 2 rows on cpu with {'task': 1}: no such task",
        ),
        ({"factory": lambda rows, device: LabEnv(4), "name": "Go1"}, "Go1 has 4 rows where 2 were asked for"),
        ({"factory": numpy_env}, "observes a ndarray, but tensors are needed"),
        ({"factory": lambda rows, device: LabEnv(rows), "actor": ("pixels",)}, "'pixels': it has policy, critic"),
        (
            {"factory": lambda rows, device: LabEnv(rows, groups=("left", "right"))},
            r"the observation groups left, right: say which the actor sees \(env.actor\)",
        ),
    ],
)
def test_what_cannot_be_an_environment_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TensorEnv(**settings, device="cpu").make(2)
