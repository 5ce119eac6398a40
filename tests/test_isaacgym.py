"""Isaac Gym's tasks as a VecEnv, on a stand-in whose every number is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from isaacgym_toys import BAD_NUMBER, FAIL, interpreter, take, vector
from toys import experiment

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import EvaluationConfig
from ppo_and_friends.devices import on_device
from ppo_and_friends.errors import EnvironmentFailure
from ppo_and_friends.evaluate import evaluate
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.base import EnvConfig, VecEnv
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda:0", marks=needs_gpu)]
# columns of an observation
POSITION, AGE, START = 0, 1, 2


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    return interpreter(tmp_path_factory.mktemp("isaacgym"))


@pytest.fixture(scope="module", params=DEVICES)
def servers(python, request) -> Iterator[dict[str, VecEnv]]:
    """One of each order of resetting; what they give is brought to the CPU."""
    made = {task: vector(python, task, device=request.param) for task in ("Ant", "Before", "AnymalTerrain")}
    assert all(env.spec.device == torch.device(request.param) for env in made.values())
    yield {task: on_device(env, torch.device("cpu")) for task, env in made.items()}
    for env in made.values():
        env.close()


def test_contracts(python, servers) -> None:
    config = IsaacGymEnv("Ant", python)
    env = servers["Ant"]
    assert isinstance(config, EnvConfig) and isinstance(env, VecEnv)
    (group,) = env.spec.groups
    assert (group.rows, group.actor[0].shape, group.mask, group.symmetric) == (3, (3,), 0, True)
    assert (group.action.kind, group.action.low, group.action.high) == ("box", (-1.0, -1.0), (1.0, 1.0))
    (obs,) = env.reset(0)
    assert obs.actor is obs.critic and env.state() is None


@pytest.mark.parametrize("task", ["Ant", "Before", "AnymalTerrain"])
def test_starts_follow_the_seed(servers, task) -> None:
    starts = [servers[task].reset(seed)[0].actor[:, START].clone() for seed in (1, 2, 1)]
    take(servers[task], FAIL, 0, 0)
    starts.append(servers[task].reset(1)[0].actor[:, START].clone())
    assert torch.equal(starts[0], starts[2]) and torch.equal(starts[0], starts[3])
    assert not torch.equal(starts[0], starts[1])
    assert len(set(starts[0].tolist())) == 3


def test_a_reset_after_the_simulation_costs_one_inactive_step(servers) -> None:
    env = servers["Ant"]
    start = env.reset(0)[0].actor[:, START].clone()
    step = take(env, 0, 0, 0)
    assert torch.equal(step.reward, start + torch.tensor([1.0, 2, 3]))
    assert torch.equal(step.obs.actor[:, POSITION], step.reward) and step.obs.actor[:, AGE].tolist() == [1, 1, 1]
    step = take(env, 0, FAIL, 0)
    assert step.terminated.tolist() == [False, True, False] and not step.truncated.any() and step.active.all()
    assert step.final.actor[1].tolist() == [start[1] + 4, 2, start[1]]  # the true last observation
    step = take(env, 0, 0, 0)  # row 1 is reset; the others meet the limit of 4, flagged when 3 steps were taken
    assert step.active.tolist() == [True, False, True]
    assert step.truncated.tolist() == [True, False, True] and not step.terminated.any()
    assert step.obs.actor[1, AGE] == 0 and step.obs.actor[1, POSITION] == step.obs.actor[1, START] != start[1]
    step = take(env, 0, 0, 0)
    assert step.active.tolist() == [False, True, False] and not (step.truncated | step.terminated).any()
    assert step.obs.actor[:, AGE].tolist() == [0, 1, 0]
    assert step.obs.actor[1, POSITION] == step.obs.actor[1, START] + 2


def test_a_reset_before_the_simulation_too(servers) -> None:
    env = servers["Before"]
    assert env.reset(0)[0].actor[:, AGE].tolist() == [1, 1, 1]
    take(env, 0, 0, 0)
    step = take(env, 0, 0, FAIL)
    assert step.truncated.all()  # and row 2 failed in its very last step, which counts as a time-out there
    step = take(env, 0, 0, 0)
    assert not step.active.any() and not step.truncated.any()
    assert step.obs.actor[:, AGE].tolist() == [1, 1, 1]


def test_a_reset_at_once_keeps_the_observation_before(servers) -> None:
    env = servers["AnymalTerrain"]
    assert env.reset(0)[0].actor[:, AGE].tolist() == [0, 0, 0]
    before = take(env, 0, 0, 0).obs.actor.clone()
    step = take(env, FAIL, 0, 0)
    assert step.terminated.tolist() == [True, False, False] and not step.truncated.any() and step.active.all()
    assert step.obs.actor[:, AGE].tolist() == [0, 2, 2] and step.final.critic is step.final.actor
    assert torch.equal(step.final.actor[0], before[0]) and torch.equal(step.final.actor[1:], step.obs.actor[1:])
    before = step.obs.actor.clone()
    step = take(env, 0, 0, 0)  # the limit is seen although the task has reset its counts
    assert step.truncated.tolist() == [False, True, True] and not step.terminated.any() and step.active.all()
    assert step.obs.actor[:, AGE].tolist() == [1, 0, 0] and torch.equal(step.final.actor[1:], before[1:])


def test_states_are_the_critics(servers) -> None:
    env = servers["Before"]
    (group,) = env.spec.groups
    assert group.critic[0].shape == (1,) and not group.symmetric
    env.reset(0)
    step = take(env, 0, 0, 0)
    assert torch.equal(step.obs.critic, step.obs.actor[:, :1] * 2)


def test_what_a_task_reports_is_logged(servers) -> None:
    env = servers["Ant"]
    env.reset(0)
    step = take(env, 0, 0, 0)
    assert step.log.keys() == {"consecutive_successes", "episode/height"}
    assert step.log["consecutive_successes"].tolist() == [step.reward.max()] * 3
    assert torch.equal(step.log["episode/height"], -step.obs.actor[:, POSITION])


def test_a_bad_number_names_its_row(servers) -> None:
    env = servers["Ant"]
    env.reset(0)
    take(env, 0, 0, 0)
    with pytest.raises(EnvironmentFailure, match="Ant.*reward of row 2 is not finite"):
        take(env, 0, 0, BAD_NUMBER)


class Always:
    """Takes the same action everywhere."""

    def __init__(self, *action: float) -> None:
        self.action = torch.tensor([action])

    def start(self, rows: int) -> None: ...

    def act(self, obs, state, first) -> tuple[torch.Tensor, None]:
        return self.action.expand(len(first), -1), None


def test_one_environment_is_evaluated_beside_the_training(python, servers) -> None:
    training = servers["Ant"]
    training.reset(5)
    seen = take(training, 0, 0, 0).obs.actor
    kept = seen.clone()
    env = IsaacGymEnv("Ant", python, "cpu", ("task.env.episodeLength=6",)).make(1, render=True)
    start = float(env.reset(7)[0].actor[0, START])
    scores = evaluate(env, Always(1.0, 0.0), 2, seed=7, comm=SoloComm(), max_episode_steps=100)
    assert scores.lengths == (5, 5)  # as long as the task counts, less the step that belongs to no episode
    assert scores.returns[0] == 5 * start + 15
    assert np.array_equal(env.frame(0), np.arange(24).reshape(2, 4, 3)) and env.frame(0).dtype == np.uint8
    env.close()
    assert torch.equal(seen, kept)


@pytest.mark.parametrize("device", DEVICES)
def test_training(python, device) -> None:
    env = IsaacGymEnv("Ant", python, device)
    ppo = PPO(replace(experiment(env), num_timesteps=256, evaluation=EvaluationConfig(every=0))).learn()
    assert ppo.timesteps >= 256 and ppo.groups[0].recent.total > 10
    ppo.env.close()
