"""What stops an update, what moves the learning rate, and what travels behind the gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from toys import BOX, DISCRETE, Toy, experiment

from ppo_and_friends.functional.losses import surrogate_loss, value_loss
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import Schedule, constant


def made(toy: Toy | None = None, **ppo: Any) -> PPO:
    return PPO(experiment(toy or Toy(BOX), **ppo))


def test_epochs_stop_when_the_divergence_from_the_rollouts_policy_exceeds_its_bound() -> None:
    fast = {"lr": constant(0.02), "epochs": 8}
    free = made(**fast).iterate()
    assert free["epochs"] == 8 and free["kl"] > 0.02
    stopped = made(**fast, stop_kl=0.02).iterate()
    assert 1 <= stopped["epochs"] < 8 and stopped["kl"] < free["kl"]
    assert made(**fast, stop_kl=1e3).iterate()["epochs"] == 8


@pytest.mark.parametrize("minibatches", [1, 3])
def test_an_epoch_has_as_many_steps_as_minibatches(minibatches: int) -> None:
    ppo = made(minibatches=minibatches, epochs=2)
    ppo.iterate()
    assert float(ppo.groups[0].learner.tensors.steps) == 2 * minibatches


@pytest.mark.parametrize("reference", ["rollout", "previous_visit"])
def test_the_learning_rate_rises_below_half_the_target_and_falls_above_twice_it(reference: str) -> None:
    start = {"lr": constant(1e-3), "kl_reference": reference, "lr_bounds": (1e-4, 2e-2), "epochs": 3}
    rising = made(**start, target_kl=10.0)
    rates = [rising.iterate()["lr"] for _ in range(2)]
    assert rates[0] == pytest.approx(2e-2) and rates[1] == pytest.approx(2e-2), "every step raises it up to its bound"
    falling = made(**start, target_kl=1e-9)
    assert falling.iterate()["lr"] < 1e-3
    assert [falling.iterate()["lr"] for _ in range(3)][-1] == pytest.approx(1e-4)


def test_a_previous_visit_is_nearer_than_the_rollout() -> None:
    settings = {"lr": constant(1e-2), "epochs": 6, "target_kl": 0.02, "lr_bounds": (9.9e-3, 1.01e-2)}
    sums = {}
    for reference in ("rollout", "previous_visit"):
        ppo, seen = made(**settings, kl_reference=reference), []
        learner = ppo.groups[0].learner
        move = learner.move

        def watch(tensors: Any, gradient: Any, tail: Any, move=move, seen=seen) -> None:
            seen.append(tail[1:3].tolist())
            move(tensors, gradient, tail)

        learner.move = watch
        ppo.iterate()
        sums[reference] = torch.tensor(seen).view(6, 3, 2).sum(1)
    assert torch.equal(sums["rollout"][:, 0], sums["rollout"][:, 1])
    visits = sums["previous_visit"]
    torch.testing.assert_close(visits[0, 0], visits[0, 1], rtol=0.05, atol=0)  # one divergence, in both directions
    assert bool((visits[2:, 1] < visits[2:, 0]).all())


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("minibatch", [1, 1 / 1.5, 1 / 1.5, 1 / 1.5, 1, 1.5]), ("epoch", [1, 1, 1 / 1.5, 1 / 1.5, 1 / 1.5, 1])],
)
def test_the_learning_rate_adapts_to_a_minibatch_or_to_an_epochs_mean(schedule: str, factors: list[float]) -> None:
    learner = made(lr=constant(1e-3), minibatches=3, target_kl=0.01, kl_schedule=schedule).groups[0].learner
    still = torch.zeros_like(learner.flat.gradient)
    rates = []
    # 0.01, 0.09, 0.01: together 1.2 / 40 = 0.03, above 0.02; 0.008, 0.003, 0.003: 0.17 / 40 = 0.00425, below 0.005
    for weight, divergence in ((10, 0.1), (10, 0.9), (20, 0.2), (10, 0.08), (10, 0.03), (20, 0.06)):
        tail = torch.zeros_like(learner.flat.tail)
        tail[0], tail[2] = weight, divergence
        learner.move(learner.tensors, still, tail)
        rates.append(float(learner.lr))
    assert rates == pytest.approx([1e-3 * factor for factor in factors])


def test_the_divergence_from_a_previous_visit_is_that_of_the_policy_now() -> None:
    ppo, seen = made(target_kl=0.01, kl_reference="previous_visit"), []
    learner, distribution = ppo.groups[0].learner, ppo.groups[0].net.distribution
    learner.step = lambda batch: (seen.append(batch), batch.parameters)[1]  # type: ignore[func-returns-value]
    ppo.iterate()
    torch.nn.init.zeros_(distribution.head.weight)  # type: ignore[union-attr,arg-type]
    batch = seen[0]  # now N(0, 1) in two columns, then N(1, 2)
    reference = torch.tensor([1.0, 1.0, math.log(2), math.log(2)]).expand_as(batch.parameters)
    _, sums, _ = learner.objective(batch._replace(reference=reference), torch.tensor(0.2), torch.tensor(0.0))
    one_column = math.log(2) + (1 + 1) / (2 * 4) - 0.5
    assert float(sums[2] / sums[0]) == pytest.approx(2 * one_column, rel=1e-5)


def test_a_critic_with_a_rate_of_its_own_is_stepped_and_clipped_alone() -> None:
    lr = Schedule("linear:0.01,0")
    ppo = made(lr=constant(0.0), critic_lr=lr, epochs=1, minibatches=1, max_grad_norm=1e-3, adam_eps=1e-12)
    net, learner = ppo.groups[0].net, ppo.groups[0].learner
    policy = {name for name, _ in net.named_parameters() if name.startswith(("actor_body", "distribution"))}
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    assert ppo.iterate()["lr"] == 0.0
    for name, parameter in net.named_parameters():
        moved = (parameter.detach() - before[name]).abs().max()
        assert float(moved) == pytest.approx(0.0 if name in policy else 0.01 * (1 - 64 / 10_000), rel=1e-3), name
    assert len(policy) == 5 and len(before) == 9
    norms = [float(torch.linalg.vector_norm(learner.tensors.first[where])) for _, where in learner.flat.parts]
    assert norms == pytest.approx([1e-4, 1e-4], rel=1e-2)  # Adam's first moment: a tenth of each clipped gradient
    with pytest.raises(ValueError, match="in other parts"):
        made().groups[0].learner.load_state(learner.state())


def test_schedules_follow_the_timesteps() -> None:
    ppo = made(
        lr=Schedule("linear:0.01,0"), clip_range=Schedule("step:0.3,200:0.1"), entropy_weight=Schedule("linear:1,0,400")
    )
    learner = ppo.groups[0].learner
    for start in (64, 128, 192, 256):  # timesteps before each rollout; 64 went into seeding the moments
        assert ppo.iterate()["timesteps"] == start + 64
        assert float(learner.lr) == pytest.approx(0.01 * (1 - start / 10_000))
        assert float(learner.tensors.clip) == pytest.approx(0.3 if start < 200 else 0.1)
        assert float(learner.tensors.entropy_weight) == pytest.approx(1 - start / 400)


def test_flags_of_a_rank_arrive_as_the_number_of_ranks_that_want() -> None:
    ppo = made()
    assert (ppo.iterate()["stop"], ppo.iterate()["save"]) == (0.0, 0.0)
    ppo.groups[0].learner.save_wanted = True
    metrics = ppo.iterate()
    assert (metrics["stop"], metrics["save"]) == (0.0, 1.0)


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_loss_that_is_not_finite_is_told_and_leaves_the_parameters_good(where: str) -> None:
    ppo = made(normalize_advantages=False)
    ppo.iterate()
    group = ppo.groups[0]
    original = group.learner.step
    count = 0

    def step(batch: Any) -> Any:
        nonlocal count
        if count == (0 if where == "first" else 2):
            batch.advantages[0, 0] = math.inf
        count += 1
        return original(batch)

    group.learner.step = step
    with pytest.raises(
        FloatingPointError, match="^rank 0: the loss or its gradient is not finite in iteration 1, epoch 1"
    ):
        ppo.iterate()
    assert count == 3 and bool(group.learner.flat.values.isfinite().all())


def test_metrics_are_means_over_samples() -> None:
    metrics = made(Toy(DISCRETE), lr=constant(0.0)).iterate()
    assert metrics["kl"] == pytest.approx(0, abs=1e-7) and metrics["clip_fraction"] == 0
    assert metrics["entropy"] == pytest.approx(math.log(4), rel=1e-3)
    assert metrics["policy_loss"] == pytest.approx(0, abs=1e-5), "advantages have mean 0 and the ratio is 1"
    padded = made(Toy(DISCRETE), lr=constant(0.0), minibatches=7).iterate()
    assert padded["value_loss"] == pytest.approx(metrics["value_loss"], rel=1e-5), "padding weighs nothing"


def test_the_surrogate_is_clipped_on_the_side_that_improves() -> None:
    ratio, clip = torch.tensor([0.5, 1.0, 1.5]), torch.tensor(0.2)
    assert surrogate_loss(ratio, torch.ones(3), clip).tolist() == pytest.approx([-0.5, -1.0, -1.2])
    assert surrogate_loss(ratio, -torch.ones(3), clip).tolist() == pytest.approx([0.8, 1.0, 1.5])


def test_a_smooth_clip_bends_the_ratio_as_rl_games_does() -> None:
    ratio, clip = torch.tensor([0.5, 0.9, 1.0, 1.5]), torch.tensor(0.2)
    logistic = [0.8 + 0.4 / (1 + math.exp(4 * (0.5 - (x - 0.8) / 0.4))) for x in (0.5, 0.9, 1.0, 1.5)]
    bent = -surrogate_loss(ratio, -torch.ones(4), clip, "smooth")
    assert bent.tolist() == pytest.approx([-max(x, y) for x, y in zip(ratio.tolist(), logistic, strict=True)])
    assert logistic == pytest.approx([0.802677, 0.907577, 1.0, 1.197323], abs=1e-6)
    for extreme in (0.0, math.inf):
        clipped = -surrogate_loss(ratio, torch.ones(4), torch.tensor(extreme), "smooth")
        assert clipped.tolist() == pytest.approx([0.5, 0.9, 1.0, 1.5 if extreme else 1.0])


def test_the_value_loss_is_the_larger_of_free_and_clipped() -> None:
    values, old, returns = torch.tensor([3.0, 3.0]), torch.tensor([0.0, 2.9]), torch.tensor([4.0, 4.0])
    assert value_loss(values, old, returns, math.inf).tolist() == [0.5, 0.5]
    assert value_loss(values, old, returns, 1.0).tolist() == [4.5, 0.5]
