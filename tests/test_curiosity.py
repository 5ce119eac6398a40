"""Bonuses for exploring: their numbers, derived by hand, and what they leave as it is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import needs_mpirun, run
from test_group import ROWS, STEPS, run_recorded
from torch import Tensor
from toys import BODY, BOX, DISCRETE, IMAGE, MULTI_BINARY, MULTI_DISCRETE, VECTOR, Toy, box_spec, experiment, recorded

from ppo_and_friends.addons.base import Context
from ppo_and_friends.addons.bonus import Bonus
from ppo_and_friends.addons.icm import ICM, _Curiosity
from ppo_and_friends.addons.rnd import RND
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import BodyConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.group import Group
from ppo_and_friends.ppo import PPO
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.run_state import load_weights
from ppo_and_friends.schedules import Progress, constant, linear
from ppo_and_friends.types import ActionSpace, GroupSpec

BARE = BodyConfig(())


def curious(spec: GroupSpec, **settings: Any) -> _Curiosity:
    torch.manual_seed(0)
    addon = ICM(**settings).make(spec)
    assert isinstance(addon, _Curiosity)
    return addon


def test_the_forward_loss_does_not_teach_its_own_aim() -> None:
    addon = curious(box_spec(1))
    seen, reached = torch.randn(2, 4, 3, 5).requires_grad_().unbind()
    seen.retain_grad(), reached.retain_grad()
    forward, inverse = addon.errors(seen, reached, torch.rand(4, 3, 2))
    forward.sum().backward(retain_graph=True)
    assert reached.grad is None and seen.grad is not None and bool((seen.grad != 0).any())
    inverse.sum().backward()
    assert reached.grad is not None and bool((reached.grad != 0).any())


@pytest.mark.parametrize("beta", [0.0, 0.2, 1.0])
def test_beta_weighs_the_forward_loss(beta: float) -> None:
    ppo = PPO(experiment(Toy(BOX), addons=(ICM(beta=beta),)))
    batch = ppo.digest(ppo.collect())[0][0]
    with torch.no_grad():
        total, forward, inverse = ppo.groups[0].learner.addons[0].loss(batch, ppo.groups[0].net)
    torch.testing.assert_close(total, beta * forward + (1 - beta) * inverse)
    assert float((forward - inverse).abs().min()) > 0


@pytest.mark.parametrize(
    ("space", "actions", "code", "loss"),
    [
        (DISCRETE, [2], [0, 0, 1, 0], math.log(4)),
        (MULTI_DISCRETE, [1, 0, 4], [0, 1, 0, 1, 0, 0, 0, 0, 0, 1], math.log(3 * 2 * 5)),
        (MULTI_BINARY, [1, 0, 1], [0, 1, 1, 0, 0, 1], 3 * math.log(2)),
        (BOX, [1.0, 0.75], [0.5, 0.5], (0.25 + 0.25) / 2),
        (ActionSpace("box", (), (-math.inf,), (3.0,)), [2.0], [2.0], 2.0),
    ],
    ids=["discrete", "multi_discrete", "multi_binary", "box", "unbounded"],
)
def test_every_kind_of_action_is_coded_and_predicted(
    space: ActionSpace, actions: list[float], code: list[float], loss: float
) -> None:
    coder = curious(GroupSpec(1, (VECTOR,), (VECTOR,), space)).code
    taken = torch.tensor(actions, dtype=space.dtype).expand(2, 3, -1)
    found = coder(taken)
    assert found.shape == (2, 3, coder.width) and found[1, 2].tolist() == code
    assert coder.loss(torch.zeros_like(found), found).flatten().tolist() == pytest.approx(6 * [loss])
    # logits that are sure and right cost nothing: a softmax before the cross entropy would leave 0.74 of four actions
    sure = found if space.kind == "box" else 50 * found
    assert coder.loss(sure, found).abs().max() < 1e-6


def bonus_group(addon: Any) -> tuple[Group, GroupSpec]:
    torch.manual_seed(0)
    spec = box_spec(3)
    config = experiment(Toy(BOX), rows=3, addons=(addon,), normalize_observations=False, normalize_rewards=False)
    return Group(spec, config, SoloComm(), STEPS, torch.Generator()), spec


@torch.no_grad()
def test_the_bonus_is_what_was_derived_by_hand() -> None:
    """A forward model that foresees 0 is wrong by what is reached: half its square, over the spread of the rollout
    before, times the weight."""
    group, spec = bonus_group(ICM(weight=constant(0.5), gamma=0.0, encoder=BARE, models=BARE))
    (addon,) = group.addons
    assert isinstance(addon, _Curiosity)
    for parameter in addon.foresee.parameters():
        torch.nn.init.zeros_(parameter)
    context = Context(group.net, SoloComm(), Progress(0, 1), group.generator)
    rollout = recorded(group.net, spec, STEPS, slice(0, 3), 3, seed=1, absent=0.2)
    assert isinstance(rollout.final.actor, Tensor)
    wrong = 0.5 * rollout.final.actor.square().sum(-1) * rollout.active
    before = rollout.rewards.clone()
    addon.begin_iteration(context.progress)
    assert torch.equal(addon.transform(rollout, context).rewards, before), "no bonus before there is a scale"
    for moments in group.early_moments():
        moments.absorb()
    spread = wrong[rollout.active].double().std(correction=0)
    found = addon.transform(rollout, context)
    bonus = 0.5 * (wrong / spread).float()
    torch.testing.assert_close(found.rewards, before + bonus)
    torch.testing.assert_close(found.logs[:, -1], bonus)
    assert torch.equal(rollout.rewards, before) and torch.equal(found.raw_rewards, before)


@pytest.mark.parametrize("config", [ICM(weight=constant(1.0)), RND(weight=constant(1.0))], ids=["ICM", "RND"])
def test_what_is_seen_before_it_is_normalised_has_no_part_in_the_scale(config: Any) -> None:
    bonuses = []
    for scale in (1.0, 1e5):
        ppo = PPO(experiment(Toy(BOX, scale=scale), addons=(config,), steps_per_row=64))
        bonuses.append([ppo.iterate()[f"rollout_{config.__class__.__name__.lower()}_bonus"] for _ in range(2)])
        assert bonuses[-1][0] == 0
    assert bonuses[1][1] == pytest.approx(bonuses[0][1], rel=0.2)


def test_novelty_is_the_error_of_what_was_told() -> None:
    group, _ = bonus_group(RND(outputs=2))
    addon: Any = group.addons[0]
    torch.nn.init.zeros_(addon.target[1][1].weight)
    addon.target[1][1].bias.data.copy_(torch.tensor([3.0, 0.0]))
    torch.nn.init.zeros_(addon.predictor[1][1].weight)
    addon.predictor[1][1].bias.data.copy_(torch.tensor([1.0, 1.0]))
    assert addon.error((torch.randn(4, 3, 5),)).flatten().tolist() == pytest.approx(12 * [(4 + 1) / 2])


@torch.no_grad()
def test_novelty_is_measured_by_who_was_there_and_has_an_end() -> None:
    group, spec = bonus_group(RND())
    addon: Any = group.addons[0]
    rollout = recorded(group.net, spec, STEPS, slice(0, 3), 3, seed=1, absent=0.3)
    addon.surprise(rollout, Context(group.net, SoloComm(), Progress(0, 1), group.generator))
    (moments,) = addon.moments
    moments.absorb()
    (reached,) = addon.extras(rollout, None)
    torch.testing.assert_close(moments.mean, reached[rollout.active].double().mean(0))
    far, farther = (addon.error((torch.full((1, *reached.shape[2:]), 10.0**power),)) for power in (4, 6))
    assert torch.equal(far, farther)


@pytest.mark.parametrize("config", [ICM(lr=0.01, encoder=BODY), RND(lr=0.01)], ids=["ICM", "RND"])
@pytest.mark.parametrize("toy", [Toy(BOX, absent=0.3), Toy(DISCRETE, images=True, truncates=0.3)], ids=["box", "image"])
def test_reward_and_training_look_at_the_same(toy: Toy, config: Any) -> None:
    """What rewards are made of, averaged over samples, is the loss before the first step, ends of episodes included."""
    frozen = replace(config, lr=1e-30)
    ppo = PPO(experiment(toy, addons=(frozen,), minibatches=1, epochs=1))
    (addon,) = ppo.groups[0].learner.addons
    assert isinstance(addon, Bonus)
    seen: list[tuple[Rollout, Tensor]] = []
    surprise = addon.surprise

    def watched(rollout: Rollout, context: Context) -> Tensor:
        found = surprise(rollout, context)
        seen.append((rollout, found))
        return found

    addon.surprise = watched  # type: ignore[method-assign]
    metrics = ppo.iterate()
    rollout, found = seen[-1]
    loss = metrics["icm_forward_loss" if isinstance(config, ICM) else "rnd_loss"]
    expected = float(found[rollout.active].mean())
    # RND's moments of observations have moved in between
    assert loss == pytest.approx(expected, rel=1e-4 if isinstance(config, ICM) else 0.5)
    assert ppo.iterate()["rollout_" + addon.logs[0]] > 0


def test_both_ends_of_a_step_are_normalised_alike() -> None:
    ppo = PPO(experiment(Toy(BOX), addons=(ICM(),), steps_per_row=32))
    ppo.iterate()
    (rollout,) = ppo.collector.collect()
    (batch,), _ = ppo.digest([rollout])
    assert isinstance(batch.actor, Tensor)
    seen, reached, taken = (x.unflatten(1, (32, 4)).squeeze(0) for x in (batch.actor, *batch.extras))
    on = ~rollout.first[1:-1]
    assert torch.equal(reached[:-1][on], seen[1:][on]) and 0 < int(on.sum()) < on.numel()
    assert bool((taken >= torch.tensor(BOX.low)).all() & (taken <= torch.tensor(BOX.high)).all())


@pytest.mark.parametrize("config", [ICM(weight=constant(0.0)), RND(weight=constant(0.0))], ids=["ICM", "RND"])
def test_without_weight_the_policy_is_that_without_a_bonus(config: Any) -> None:
    values = []
    for addons in ((), (config,)):
        ppo = PPO(experiment(Toy(BOX), addons=addons))
        returns = [ppo.iterate()["mean_return"] for _ in range(3)]
        values.append([torch.tensor(returns), *(p.detach() for p in ppo.groups[0].net.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*values, strict=True))
    ppo = PPO(experiment(Toy(BOX), addons=(replace(config, weight=constant(1.0)),)))
    returns = [ppo.iterate()["mean_return"] for _ in range(3)]
    assert returns[0] == values[0][0][0], "scores see no bonus"
    assert not torch.equal(next(iter(ppo.groups[0].net.parameters())), values[0][1])


def test_the_weight_follows_its_schedule() -> None:
    schedule = linear(1.0, 0.0, 400)
    ppo = PPO(experiment(Toy(BOX), addons=(RND(weight=schedule),)))
    (addon,) = ppo.groups[0].learner.addons
    ppo.iterate()
    for _ in range(2):
        expected = schedule(ppo.progress)
        ppo.iterate()
        assert float(addon.weight) == pytest.approx(expected) and 0 < float(addon.weight) < 1


def test_the_network_that_is_copied_never_learns() -> None:
    ppo = PPO(experiment(Toy(BOX), addons=(RND(lr=0.01),)))
    addon: Any = ppo.groups[0].learner.addons[0]
    before = [p.detach().clone() for p in addon.parameters()]
    ppo.iterate()
    moved = {
        name.split(".")[0] for (name, p), old in zip(addon.named_parameters(), before, strict=True) if (p != old).any()
    }
    assert moved == {"predictor"}


def test_curiosity_learns_a_world() -> None:
    config = experiment(Toy(BOX, scale=0.1), addons=(ICM(lr=3e-3), RND(lr=3e-3)), epochs=4)
    ppo = PPO(config)
    metrics = [ppo.iterate() for _ in range(25)]
    for name in ("icm_forward_loss", "rnd_loss"):
        assert metrics[-1][name] < 0.5 * metrics[0][name]


RANKS_RUN = """
    import os
    import torch
    from test_curiosity import BOTH
    from test_group import run_recorded

    def main(comm):
        result = run_recorded(comm, *((0, 5), (5, 7))[comm.rank], BOTH)
        for tensor in result:
            everyone = tensor.clone()
            comm.broadcast_(everyone)
            assert torch.equal(everyone, tensor)
        if comm.rank == 0:
            torch.save(result, os.environ["RESULT"])
"""
BOTH = (ICM(weight=constant(1.0)), RND(weight=constant(1.0)))


@needs_mpirun
def test_two_ranks_are_as_curious_as_one(tmp_path: Path) -> None:
    alone = run_recorded(SoloComm(), 0, ROWS, BOTH)
    file = tmp_path / "result.pt"
    done = run(2, RANKS_RUN, RESULT=str(file))
    assert done.returncode == 0, done.stderr
    result = torch.load(file, weights_only=True)
    assert len(result) == len(alone) == 3 + 3 * 6  # moments: values, rewards, two bonuses, RND's and the policy's view
    for mine, other in zip(result[:3], alone[:3], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6)
    for mine, other in zip(result[3:], alone[3:], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: curious(GroupSpec(1, (VECTOR,), (VECTOR,), ActionSpace("quaternion"))), "kind 'quaternion': take"),  # type: ignore[arg-type]
        (lambda: curious(GroupSpec(1, (IMAGE,), (IMAGE,), DISCRETE)), "too small .* or in the settings of the add-on"),
        (lambda: ICM(beta=1.5), "ICM.beta is 1.5, but must be between 0 and 1: it weighs the forward loss"),
        (lambda: ICM(weight=constant(-1.0)), "ICM.weight is -1.0"),
        (lambda: RND(gamma=2.0), "RND.gamma is 2.0"),
        (lambda: RND(lr=-1.0), "RND has lr -1.0"),
        (lambda: RND(outputs=0), "RND.outputs is 0"),
    ],
    ids=["actions", "image", "beta", "weight", "gamma", "lr", "outputs"],
)
def test_what_cannot_be_is_one_sentence(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def test_a_weight_that_is_a_number_is_told_to_be_a_schedule() -> None:
    with pytest.raises(UserError, match=r"ICM.weight is 1.0: give a schedule, as constant\(1.0\) is one"):
        ICM(weight=1.0)  # type: ignore[arg-type]


def test_one_add_on_is_a_tuple_too() -> None:
    with pytest.raises(UserError, match="addons is one ICM, but must be a tuple"):
        PPO(experiment(Toy(BOX), addons=ICM()))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"addons has the class ICM itself: give one that is made, ICM\(\)"):
        PPO(experiment(Toy(BOX), addons=(ICM,)))


def test_weights_from_a_run_without_the_bonus_bring_the_scale_of_rewards() -> None:
    trained, curious_ = PPO(experiment(Toy(BOX))), PPO(experiment(Toy(BOX), addons=(ICM(),)))
    trained.iterate()
    fresh = {key: value.clone() for key, value in curious_.groups[0].addons[1].state_dict().items()}
    load_weights(curious_, {"shared": trained.shared_state()}, "here")
    scale, kept = trained.groups[0].addons[0].state_dict(), curious_.groups[0].addons[0].state_dict()
    assert scale.keys() == kept.keys() and float(kept["moments.count"]) > 0
    torch.testing.assert_close(dict(kept), dict(scale), rtol=0, atol=0)
    torch.testing.assert_close(dict(curious_.groups[0].addons[1].state_dict()), fresh, rtol=0, atol=0)
