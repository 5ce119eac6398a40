"""docs/own_task.md: its code is the example's, and the example keeps the rules, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from isaac_tasks import one_round
from torch import Tensor
from worlds import comparable, device_env, random_actions

from ppo_and_friends import registry
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.evaluate import evaluate
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.task_env import TaskEnv
from ppo_and_friends.vector.sim.warp_gpu import WarpSim

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "own_task.py"
EXPERIMENT = registry.build(f"{EXAMPLE}:Reach")
TASK: Any = EXPERIMENT.env.task
ROWS = 4
EVERYONE = torch.ones(ROWS, dtype=torch.bool)


pytestmark = pytest.mark.usefixtures("elsewhere")


def on_cpu(rows: int, task: Any = TASK) -> TaskEnv:
    return TaskEnv(task, BatchSim(task.model(), rows, 1, task.name), "test")


@dataclass(frozen=True)
class Made:
    """An `EnvConfig` of the example on one engine."""

    on: Callable[[int], Any]

    def make(self, rows: int, threads: int = 1, render: bool = False) -> Any:
        return self.on(rows)


each_engine = pytest.mark.parametrize("made", [on_cpu, lambda rows: device_env(TASK, rows)], ids=["cpu", "warp"])


def test_the_page_shows_the_example() -> None:
    page = (ROOT / "docs" / "own_task.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```\n")[0]
    assert code == EXAMPLE.read_text(encoding="utf-8")


def test_one_step_from_equal_states_is_the_same_on_both_engines() -> None:
    model = comparable(TASK)
    cpu, warp = BatchSim(model, ROWS, 1, "cpu"), WarpSim(model, ROWS, "warp", "cpu")
    memories = [TASK.start(sim) for sim in (cpu, warp)]
    chance = torch.Generator().manual_seed(0)
    cpu.reset(EVERYONE)
    warp.reset(EVERYONE)
    for action in random_actions(TASK, ROWS, 20):
        for field in ("qpos", "qvel"):
            values = cpu.bind(field)
            values.add_(0.1 * torch.randn(values.shape, generator=chance))
            warp.bind(field).copy_(values)
        outcomes = []
        for sim, memory in zip((cpu, warp), memories, strict=True):
            sim.forward(EVERYONE)
            TASK.apply(sim, memory, action)
            sim.step(TASK.substeps)
            reward, ended, log = TASK.reward_done(sim, memory, action)
            seen = TASK.observe(sim, memory).actor
            assert seen.shape == (ROWS, *TASK.actor[0].shape)
            outcomes.append([part.double() for part in (seen, reward, ended, *log.values(), sim.bind("qpos"))])
        for ours, theirs in zip(*outcomes, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_no_step_asks_for_a_value() -> None:
    """On the device `meta` there is none."""
    source = on_cpu(ROWS).sim
    assert isinstance(source, BatchSim)
    assert all(value.is_meta for value in one_round(TASK, source, torch.float32, "meta"))


@each_engine
def test_a_new_episode_shows_its_own_pose(made: Callable[[int], Any]) -> None:
    env = made(ROWS)
    shown = env.reset(1)[0].actor.clone()
    env.sim.forward(EVERYONE)
    assert torch.equal(env.task.observe(env.sim, {}).actor.to(shown.dtype), shown)


@each_engine
def test_the_reward_is_the_way_made_since_before_the_step(made: Callable[[int], Any]) -> None:
    env = made(ROWS)
    env.reset(1)
    for action in random_actions(TASK, ROWS, 5):
        before = distance(env)
        step = env.step((action,))[0]
        assert not step.terminated.any()
        torch.testing.assert_close(step.log["reward_nearer"].double(), 10 * (before - distance(env)), atol=1e-4, rtol=0)
    assert (step.log["reward_nearer"].abs() > 1e-3).any()


@each_engine
def test_a_tip_at_the_target_ends_the_episode(made: Callable[[int], Any]) -> None:
    env = made(ROWS)
    env.reset(1)
    qpos = env.sim.bind("qpos")
    qpos[2] = torch.tensor([0.0, 0.0, 0.4, 0.0])  # stretched out along x
    env.sim.bind("qvel")[2] = 0.0
    env.sim.forward(EVERYONE)
    step = env.step((torch.zeros(ROWS, 2),))[0]
    assert step.terminated.tolist() == [False, False, True, False]
    assert step.reward[2] > 0.9 and step.log["is_success"].tolist() == [0, 0, 1, 0]
    assert not torch.equal(step.obs.actor[2], step.final.actor[2])  # a new episode has begun there


@each_engine
def test_it_trains_and_is_scored(made: Callable[[int], Any]) -> None:
    small = replace(EXPERIMENT.ppo, steps_total=128, minibatches=2, epochs=2)
    ppo = PPO(replace(EXPERIMENT, env=Made(made), ppo=small, envs_per_proc=ROWS))
    start = [parameter.clone() for parameter in ppo.groups[0].net.parameters()]
    metrics = [ppo.iterate() for _ in range(2)]
    assert metrics[1]["iteration"] == 2 and all(torch.tensor(one["kl"]).isfinite() for one in metrics)
    moved = zip(start, ppo.groups[0].net.parameters(), strict=True)
    assert all(not torch.equal(before, after) for before, after in moved)
    score = evaluate(ppo.evaluation_env(ROWS), ppo.policy(), 4, 0, SoloComm(), 200)
    assert len(score.returns) == 4 and "is_success" in score.logs


def distance(env: Any) -> Tensor:
    """From the tip to the target as they are observed."""
    return env.task.observe(env.sim, {}).actor[:, 6:].double().norm(dim=1)
