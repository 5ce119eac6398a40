"""Domain randomisation: noise, pushes, exact resume, and the ant's worlds beside the model's own."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from carts import GRAVITY, MASS, ROWS, SEED, TIMESTEP, Carts, carts, column, constant, environment, mask, run
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toys import experiment as toy_experiment

from environments.tasks.ant import Ant
from ppo_and_friends import registry
from ppo_and_friends.config import Experiment
from ppo_and_friends.devices import on_device
from ppo_and_friends.errors import UserError
from ppo_and_friends.flags import split
from ppo_and_friends.parser import parse
from ppo_and_friends.ppo import PPO
from ppo_and_friends.run_state import setting_changes
from ppo_and_friends.serialize import from_plain, to_plain
from ppo_and_friends.vector.base import Scheduled, VecEnv
from ppo_and_friends.vector.sim.randomize import Noise, Push, Randomized, Vary
from ppo_and_friends.vector.sim.task_env import SimEnv


def test_observation_noise() -> None:
    env = carts(
        500,
        observations=(
            Noise(range=(0.0, 0.02), distribution="gaussian"),
            Noise(range=(0.0, 0.1), distribution="gaussian", drawn="episode"),
        ),
    )
    steps = run(env, 9)  # within one episode
    noise = torch.stack([step.obs.actor - step.obs.critic for step in steps])  # pyright: ignore
    kept = noise.mean(0)
    assert kept.std().item() == pytest.approx((0.1**2 + 0.02**2 / 9) ** 0.5, rel=0.1)
    assert (noise - kept).std().item() == pytest.approx(0.02 * (8 / 9) ** 0.5, rel=0.1)
    assert all(step.final.actor is step.obs.actor for step in steps)
    env._restart(torch.ones(500, dtype=torch.bool))
    steps = run(env, 9)
    again = torch.stack([step.obs.actor - step.obs.critic for step in steps]).mean(0)  # pyright: ignore
    correlation = torch.corrcoef(torch.stack((kept.flatten(), again.flatten())))[0, 1]
    assert abs(correlation) < 0.12  # five standard errors over 2000 numbers


def test_kept_noise_grows_between_episodes_only() -> None:
    noise = Noise(**constant(1.0, schedule="linear", schedule_steps=40), drawn="episode")
    steps = run(carts(observations=(noise,)), 30)  # three episodes, begun after 0, 10 and 20 steps
    offset = torch.stack([step.final.actor - step.final.critic for step in steps]).mean((1, 2))  # pyright: ignore
    assert offset.tolist() == pytest.approx([0.0] * 10 + [0.25] * 10 + [0.5] * 10)


GROWING = (Noise(**constant(1.0, schedule="linear", schedule_steps=1000)),)


def shown(env: VecEnv) -> float:
    """How strong the noise of `GROWING` is in the first observation after a reset."""
    (obs,) = env.reset(SEED)
    return float((obs.actor - obs.critic).mean())  # pyright: ignore


def test_schedules_begin_where_a_reset_is_told_to_and_else_at_0() -> None:
    worlds = (Vary(quantity="mass", **constant(3.0, schedule="linear", schedule_steps=1000)),)
    env = carts(observations=GROWING, worlds=worlds, frequency=2000)
    device = on_device(env, torch.device("cpu:0"))
    assert env is not device and isinstance(device, Scheduled)
    device.elapse(500)
    assert shown(device) == pytest.approx(0.5)
    assert column(env, "body_mass", 1).tolist() == [2 * MASS] * ROWS
    assert shown(device) == 0.0


@pytest.mark.parametrize("soft_resets", [True, False])
def test_schedules_go_on_over_hard_resets_and_inexact_resumes(soft_resets: bool) -> None:
    task = Randomized(Carts(), observations=GROWING)

    def made(rows: int) -> PPO:
        return PPO(toy_experiment(SimEnv(task), rows=rows, steps_per_row=16, soft_resets=soft_resets))

    def steps(ppo: PPO) -> list[int]:
        return ppo.env._memory["randomized.steps"].tolist()  # type: ignore[attr-defined]

    ppo = made(2)
    for _ in range(3):
        ppo.iterate()
    taken = ppo.collector.taken
    assert taken == ppo.timesteps // 2 > 3 * 16 and steps(ppo) == [taken] * 2  # with those that seeded the moments
    other = made(3)
    other.load_shared_state(ppo.shared_state())
    other.start_anew()
    other.iterate()
    assert steps(other) == [taken + 16] * 3
    assert shown(other.evaluation_env(2)) == 0.0


def test_final_observation_equals_the_next_where_nothing_was_cut() -> None:
    env = carts(observations=(Noise(range=(-1.0, 1.0)),))
    run(env, 4)
    env._restart(mask(2))
    steps = run(env, 6)
    final, obs = steps[-1].final.actor, steps[-1].obs.actor
    assert torch.equal(steps[-1].truncated, ~mask(2))
    assert torch.equal(final[2], obs[2]) and not torch.equal(final[0], obs[0])  # pyright: ignore


def test_action_noise_is_what_the_task_acts_on_within_bounds() -> None:
    env = carts(2000, actions=(Noise(range=(0.0, 2.0), distribution="gaussian"),))
    (step,) = run(env, 1, force=3.0)
    acted = env._memory["acted"][:, 0]
    assert acted.mean().item() == pytest.approx(3.0, abs=5 * 2 / 2000**0.5)
    assert acted.std().item() == pytest.approx(2.0, rel=0.1)
    assert torch.equal(step.reward, acted.double()) and torch.equal(env.sim.bind("ctrl")[:, 0], acted.double())
    run(env, 1, force=9.9)
    assert acted.max() == 10.0


def test_pushes_change_velocity_by_what_was_asked() -> None:
    env = carts(400, pushes=(Push(range=(0.5, 1.5), dofs=(1, 2), interval=5),), steps=100)
    velocity = env.sim.bind("qvel")
    pushed = []
    for _ in range(15):
        before = velocity.clone()
        run(env, 1)
        pushed.append(velocity[:, 1] - before[:, 1] + TIMESTEP * GRAVITY)  # nothing else acts on what falls
    change = torch.stack(pushed)  # [steps, rows]
    happened = change.abs() > 1e-9
    assert torch.equal(happened[:10], happened[5:]) and (happened[:5].sum(0) == 1).all()  # every five steps
    assert (happened[:5].sum(1) > 40).all()  # not all at once
    assert ((change[happened] >= 0.5) & (change[happened] <= 1.5)).all()
    assert change[happened].mean().item() == pytest.approx(1.0, abs=5 * 12**-0.5 / 1200**0.5)
    assert change[happened].unique().numel() > 1100  # drawn for each


EVERYTHING = Randomized(
    Ant(max_episode_steps=20),
    worlds=(
        Vary(quantity="mass", range=(0.5, 1.5)),
        Vary(quantity="friction", range=(0.7, 1.3), bodies=("torso",)),
        Vary(quantity="damping", range=(0.3, 3.0), distribution="loguniform", schedule="linear", schedule_steps=50),
        Vary(quantity="armature", range=(0.5, 1.5)),
        Vary(quantity="gain", range=(0.8, 1.2)),
        Vary(quantity="limits", range=(0.0, 0.01), distribution="gaussian", operation="additive"),
        Vary(quantity="gravity", range=(0.0, 0.4), distribution="gaussian", operation="additive"),
    ),
    pushes=(Push(range=(-0.5, 0.5), interval=7),),
    observations=(Noise(range=(0.0, 0.01), distribution="gaussian"), Noise(range=(-0.1, 0.1), drawn="episode")),
    actions=(Noise(range=(0.0, 0.02), distribution="gaussian"),),
    frequency=30,
)


def test_exact_resume() -> None:
    env = environment(EVERYTHING)
    env.reset(SEED)
    run(env, 33, force=0.1)
    file = io.BytesIO()
    torch.save(env.state(), file)
    expected = run(env, 40, force=0.2)
    file.seek(0)
    fresh = environment(EVERYTHING)
    fresh.load_state(torch.load(file, weights_only=True))
    for one, other in zip(run(fresh, 40, force=0.2), expected, strict=True):
        assert torch.equal(one.obs.actor, other.obs.actor) and torch.equal(one.reward, other.reward)  # pyright: ignore


class NeverWaits(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU, or copies from it to there."""

    REFUSED = ("_local_scalar_dense", "nonzero", "index", "index_put_", "masked_select", "lift_fresh", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in self.REFUSED, func
        return func(*args, **(kwargs or {}))


class TorchDraw:
    """`Draw` as a GPU's."""

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        return low + (high - low) * torch.rand(len(rows), size)

    def normal(self, rows: Tensor, size: int) -> Tensor:
        return torch.randn(len(rows), size)


def test_the_host_never_waits() -> None:
    env, task = environment(EVERYTHING), EVERYTHING
    action, rows = torch.zeros(ROWS, 8), mask(0, 1)
    env.reset(SEED)
    run(env, 1)  # binds all fields
    with NeverWaits():
        task.reset(env.sim, env._memory, rows, TorchDraw())
        task.apply(env.sim, env._memory, action)
        task.reward_done(env.sim, env._memory, action)
        task.observe(env.sim, env._memory)


def test_changed_settings_hold_in_a_resumed_run() -> None:
    whole, part = Vary(quantity="mass", **constant(2.0)), Vary(quantity="mass", bodies=("drop",), **constant(3.0))
    state = carts(worlds=(whole,)).state()
    env = carts(worlds=(part,))
    env.load_state(state)
    assert env.sim.expand("body_mass")[0].tolist() == [0.0, 2 * MASS, 2.0]
    run(env, 10)
    assert env.sim.expand("body_mass")[0].tolist() == [0.0, MASS, 3.0]


NOTHING = Randomized(
    Ant(max_episode_steps=20),
    worlds=(*(Vary(quantity=name, **constant(1.0)) for name in ("mass", "friction", "damping", "armature", "gain")),),
    pushes=(Push(**constant(0.0), interval=2),),
    observations=(Noise(**constant(0.0)), Noise(range=(0.0, 0.0), distribution="gaussian", drawn="episode")),
    actions=(Noise(**constant(0.0)),),
)


@pytest.mark.parametrize(("task", "steps"), [(Randomized(Ant(max_episode_steps=20)), 70), (NOTHING, 19)])
def test_what_changes_nothing_is_the_bare_task(task: Randomized, steps: int) -> None:
    """To the bit. Entries draw a key at each reset, so that the second episode then starts from other noise."""
    randomized, bare = environment(task), environment(Ant(max_episode_steps=20))
    for env in (randomized, bare):
        env.reset(SEED)
    for one, other in zip(run(randomized, steps, 0.3), run(bare, steps, 0.3), strict=True):
        assert torch.equal(one.obs.actor, other.obs.actor) and torch.equal(one.reward, other.reward)  # pyright: ignore


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vary(quantity="mass", range=(2.0, 1.0)), "lowest <= highest"),
        (lambda: Vary(quantity="mass", range=(0.0, 1.0), distribution="loguniform"), "0 < lowest"),
        (lambda: Noise(range=(0.0, -1.0), distribution="gaussian"), "standard deviation"),
        (lambda: Noise(range=(0.0, 1.0), schedule="linear"), "schedule_steps is 0"),
        (lambda: Push(range=(0.0, 1.0), interval=0), "interval is 0"),
        (lambda: Randomized(Randomized(Ant())), "once"),
        (lambda: Randomized(Ant(), frequency=-1), "frequency is -1"),
        (lambda: carts(worlds=(Vary(quantity="mass", range=(1.0, 2.0), bodies=("crat",)),)), "'crat'.*cart"),
        (lambda: carts(worlds=(Vary(quantity="gravity", range=(1.0, 2.0), bodies=("cart",)),)), "whole world"),
        (
            lambda: carts(worlds=(Vary(quantity="stiffness", range=(1.0, 2.0), bodies=("drop",)),)),
            "no stiffness of drop",
        ),
        (lambda: carts(pushes=(Push(range=(0.0, 1.0), dofs=(0, 6)),)), "dofs are (0, 6).* of 2"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        make()


def small() -> Experiment:
    experiment = registry.build("AntRandomized")
    ppo = replace(experiment.ppo, steps_total=16, steps_per_row=0, epochs=2, minibatches=2)
    return replace(experiment, envs_per_proc=2, ppo=ppo)


def test_settings_are_flags_and_survive_a_file() -> None:
    experiment = registry.build("AntRandomized")
    words = split(["--env.task.worlds.0.range", "0.9", "1.1", "--env.frequency", "7", "--env.pushes.0.interval", "50"])
    _, _, changed = parse(words, experiment)
    assert isinstance(changed.env, SimEnv)
    task = changed.env.task
    assert (task.worlds[0].range, task.frequency, task.pushes[0].interval) == ((0.9, 1.1), 7, 50)
    assert type(task.worlds[0]) is Vary and task.worlds[1:] == registry.build("AntRandomized").env.task.worlds[1:]
    assert from_plain(experiment, json.loads(json.dumps(to_plain(changed)))) == changed
    assert (
        setting_changes(to_plain(experiment), to_plain(changed))[0]
        == "env.task.worlds.0.range: [0.5, 1.5] -> [0.9, 1.1]"
    )
    with pytest.raises(UserError, match="lowest <= highest"):
        parse(split(["--env.task.worlds.0.range", "2", "1"]), experiment)


def test_ppo_iterates_and_resumes_exactly() -> None:
    ppo = PPO(small())
    ppo.iterate()
    state = ppo.env.state()
    expected = ppo.env.step((torch.zeros(2, 8),))[0]
    other = PPO(small())
    other.env.load_state(state)
    assert torch.equal(other.env.step((torch.zeros(2, 8),))[0].obs.actor, expected.obs.actor)  # pyright: ignore
