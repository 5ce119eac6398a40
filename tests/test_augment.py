"""Copies of a rollout's rows: views of an environment, and mirrors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from agent_toys import Blind, Crew
from torch import Tensor
from toys import experiment as toy_experiment

from environments.compass import Compass
from environments.tasks.walker2d import Walker2d
from ppo_and_friends import registry
from ppo_and_friends.addons.augment import Augment
from ppo_and_friends.addons.base import Context
from ppo_and_friends.addons.symmetry import Exchange, MirrorCopies, MirrorLoss
from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import ActionSpace, GroupSpec, Mirror, TensorSpec
from ppo_and_friends.vector.gym_vec import GymEnv
from ppo_and_friends.vector.multi_agent import MultiAgentEnv

ROWS, STEPS, VIEWS = 3, 16, 8


def small(name: str, **changes: Any) -> Experiment:
    made = registry.build(name)
    ppo = replace(made.ppo, steps_per_row=STEPS, minibatches=4, epochs=1)
    return replace(made, envs_per_proc=ROWS, compile="off", **{"ppo": ppo, **changes})


def transformed(ppo: PPO) -> tuple[Rollout, Rollout]:
    """A rollout, and what its copies make of it."""
    (group,) = ppo.groups
    (rollout,) = ppo.collector.collect()
    copied = rollout
    for addon in group.addons:
        copied = addon.transform(copied, Context(group.net, ppo.comm, ppo.progress, ppo.generator))  # type: ignore[operator]
    return rollout, copied


def seen(rollout: Rollout) -> Tensor:
    assert isinstance(rollout.obs.actor, Tensor)
    return rollout.obs.actor


def test_each_row_has_its_views_beside_it() -> None:
    ppo = PPO(small("CompassViews"), None)
    ppo.groups[0].net.actor_norm.parts[0] = torch.nn.Identity()
    rollout, copied = transformed(ppo)
    assert seen(copied).shape == (STEPS + 1, ROWS * VIEWS, 4)
    env = Compass()
    for step, row in ((0, 0), (5, 2), (STEPS, 1)):
        views = env.augment_observation(seen(rollout)[step, row].numpy())
        assert np.allclose(views, seen(copied)[step, row * VIEWS : (row + 1) * VIEWS].numpy())
    assert (
        copied.final_index is None
        and isinstance(copied.final.actor, Tensor)
        and isinstance(rollout.final.actor, Tensor)
    )
    assert torch.equal(copied.final.actor[:, ::VIEWS], rollout.final.actor)
    for name in ("rewards", "terminated", "truncated", "first", "age", "actions", "active"):
        assert torch.equal(getattr(copied, name)[:, 2 * VIEWS + 3], getattr(rollout, name)[:, 2]), name
    assert copied.obs.critic is copied.obs.actor


def test_what_the_policy_thinks_of_a_copy_is_its_own() -> None:
    ppo = PPO(small("CompassViews"), None)
    ppo.iterate()
    rollout, copied = transformed(ppo)
    net = ppo.groups[0].net
    assert torch.equal(copied.log_probs[:, ::VIEWS], rollout.log_probs)
    some = copied.log_probs[:, 5]
    assert not torch.allclose(some, rollout.log_probs[:, 0], atol=1e-3)
    state, mask = torch.zeros(STEPS, 0), torch.ones(STEPS, 0, dtype=torch.bool)
    features = net.policy(
        net.actor_norm(seen(copied)[:-1, 5].unsqueeze(0)), mask.unsqueeze(0), state, torch.zeros(1, STEPS).bool()
    )
    torch.testing.assert_close(net.distribution.log_prob(features, copied.actions[:, 5].unsqueeze(0))[0], some)


def test_in_the_mirror_the_image_of_the_policy_played() -> None:
    ppo = PPO(small("Walker2dMirror"), None)
    ppo.iterate()
    rollout, copied = transformed(ppo)
    for copy in range(2):
        assert torch.equal(copied.log_probs[:, copy::2], rollout.log_probs)
    own = ppo.groups[0].net.distribution.log_prob(copied.parameters, copied.actions)
    assert torch.allclose(own[:, ::2], rollout.log_probs) and not torch.allclose(own[:, 1::2], rollout.log_probs)
    group = ppo.groups[0]
    means = group.report([1.0] * group.extra, ROWS * STEPS)
    assert all(value == 1 / (ROWS * STEPS) for key, value in means.items() if key.startswith("rollout_"))


@pytest.mark.parametrize("name", ["CompassViews", "Walker2dMirrorLoss"])
def test_the_first_ratio_is_one_and_only_originals_are_counted(name: str) -> None:
    experiment = small(name, ppo=replace(registry.build(name).ppo, steps_per_row=STEPS, minibatches=1, epochs=1))
    ppo = PPO(experiment, None)
    for number in range(3):
        before = ppo.timesteps
        metrics = ppo.iterate()
        assert metrics["kl"] == pytest.approx(0, abs=1e-6) and metrics["clip_fraction"] == 0
        assert number == 0 or ppo.timesteps - before == ROWS * STEPS
    if name == "Walker2dMirrorLoss":
        assert 0 < metrics["mirror_loss"] < 10


def test_a_walker_walks_in_the_mirror_as_it_walks() -> None:
    env, twin = (registry.build("Walker2d").env.make(1) for _ in range(2))
    env.reset(0)
    twin.reset(0)
    task = Walker2d()
    observation, action = (Exchange(*pair, len(pair[0]), "") for pair in _tables(task))
    joints = torch.tensor([0, 1, 2, 6, 7, 8, 3, 4, 5])
    for field in ("qpos", "qvel"):
        twin.sim.bind(field)[:] = env.sim.bind(field)[:, joints]  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        chosen = torch.rand(1, 6, generator=generator) * 2 - 1
        ((step,), (mirrored,)) = env.step((chosen,)), twin.step((action(chosen),))
        torch.testing.assert_close(observation(step.obs.actor), mirrored.obs.actor, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(step.reward, mirrored.reward, atol=1e-4, rtol=1e-4)


def _tables(task: Walker2d) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    mirror = task.mirror
    return (mirror.observation, mirror.observation_signs), (mirror.action, mirror.action_signs)


def test_the_mirror_loss_is_zero_for_a_symmetric_policy_alone() -> None:
    ppo = PPO(small("Walker2dMirrorLoss"), None)
    rollouts = ppo.collector.collect()
    (batch,), _ = ppo.digest(rollouts)
    (group,) = ppo.groups
    (addon,) = group.learner.addons
    weighed, loss = addon.loss(batch, group.net)
    assert loss.shape == batch.weights.shape and loss.max() > 0
    heavier = MirrorLoss(weight=3.0).make(ppo.env.spec.groups[0])
    assert torch.equal(weighed, loss) and torch.equal(heavier.loss(batch, group.net)[0], 3 * loss)
    for parameter in group.net.distribution.parameters():
        parameter.data.zero_()
    assert not addon.loss(batch, group.net)[1].any()


class SeenBackwards(Crew):
    """Whose clock might as well run backwards."""

    def augment_observation(self, observation: np.ndarray) -> np.ndarray:
        return np.stack([observation, observation * np.array([1, -1], np.float32)])


@pytest.mark.parametrize("identities", [False, True])
def test_agents_have_views_and_keep_their_identity_in_them(identities: bool) -> None:
    env = MultiAgentEnv(id="Crew", factory=SeenBackwards, agent_ids=identities)
    ppo = PPO(toy_experiment(env, addons=(Augment(),), minibatches=1, epochs=1))
    views = ppo.env.spec.groups[0].views
    assert views is not None and views.copies == 2
    whose = [0.0, 1.0] if identities else []
    assert views.of(torch.tensor([[1.0, 3.0, *whose]])).tolist() == [[[1, 3, *whose]], [[1, -3, *whose]]]  # type: ignore[union-attr]
    metrics = ppo.iterate()
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)


def test_pictures_carry_no_identity() -> None:
    env = MultiAgentEnv(id="Blind", factory=SeenTwice, agent_ids=True)
    with pytest.raises(UserError, match="leave env.agent_ids off"):
        env.make(1)


class SeenTwice(Blind):
    def augment_observation(self, observation: np.ndarray) -> np.ndarray:
        return np.stack([observation, observation])


class Bad(Compass):
    def augment_observation(self, observation: np.ndarray) -> np.ndarray:
        kind = type(self).__name__
        if kind == "Other":
            return np.stack((-observation, observation))
        if kind == "Varying":
            return np.repeat(observation[None], 1 + int(abs(observation[0]) * 100) % 7, 0)
        return observation


Other, Varying, Single = (type(name, (Bad,), {}) for name in ("Other", "Varying", "Single"))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (Other, "another observation as its first view"),
        (Varying, "it must always give as many"),
        (Single, "rather than K views"),
    ],
)
def test_views_that_are_none_are_refused(factory: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GymEnv(id="Mine", factory=factory).make(2)


def test_a_rollout_without_an_end_has_views_too() -> None:
    views = GymEnv(id="Mine", factory=Compass).make(1).spec.groups[0].views
    assert views is not None
    found = views.of(torch.zeros(0, 4))
    assert isinstance(found, Tensor) and found.shape == (VIEWS, 0, 4)


def test_memory_knows_nothing_of_a_mirror() -> None:
    experiment = small("Walker2dMirrorLoss")
    net = replace(experiment.net, core="gru", chunk_length=STEPS // 2)
    with pytest.raises(UserError, match=r"net.core remembers, but an add-on learns from copies or mirror images"):
        PPO(replace(experiment, net=net), None)


@pytest.mark.parametrize(("high", "fits"), [((1.0, 1.0), True), ((1.0, 2.0), False)])
def test_a_mirror_keeps_the_bounds_of_actions(high: tuple[float, float], fits: bool) -> None:
    mirror = Mirror((0,), (-1.0,), (1, 0), (1.0, 1.0))
    seen = (TensorSpec((1,)),)
    spec = GroupSpec(1, seen, seen, ActionSpace("box", (), (-1.0, -1.0), high), mirror=mirror)
    if fits:
        MirrorCopies().make(spec)
    else:
        with pytest.raises(UserError, match="exchanges columns with other bounds"):
            MirrorCopies().make(spec)


@pytest.mark.parametrize(
    ("name", "addon", "message"),
    [
        ("CartPole", Augment(), "needs an environment with a method augment_observation"),
        ("HalfCheetah", MirrorCopies(), "needs a task that says what its mirror is"),
        ("CompassViews", MirrorLoss(), "needs a task that says what its mirror is"),
    ],
)
def test_environments_that_cannot_are_refused(name: str, addon: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PPO(small(name, addons=(addon,)), None)


@pytest.mark.parametrize(
    ("order", "signs", "message"),
    [((0, 0), (1.0, 1.0), "each of the 2"), ((1, 0), (1.0, -1.0), "does not undo itself")],
)
def test_tables_that_are_no_mirror(order: tuple[int, ...], signs: tuple[float, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Exchange(order, signs, 2, "observations")
