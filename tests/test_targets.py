"""Which futures count: ends, cuts, bounds, absent rows, and finals that are stored sparsely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import BOX, NET, Toy, box_spec, experiment, recorded, with_garbage

from ppo_and_friends.config import PPOConfig
from ppo_and_friends.networks.net import Net
from ppo_and_friends.ppo import PPO
from ppo_and_friends.rollout import Rollout, Targets
from ppo_and_friends.targets import advantage_sums, compute_targets, explained_variance
from ppo_and_friends.types import Obs, tree_map

STEPS, ROWS = 9, 4
EVERY = slice(0, ROWS)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net(box_spec(ROWS), NET, PPOConfig())
    nn.init.normal_(made.value_head.weight, std=0.3)
    rollout = recorded(made, box_spec(ROWS), 50, EVERY, ROWS, seed=0)
    made.actor_norm.measure(rollout.obs.actor, torch.ones(51, ROWS))
    for moments in made.observation_moments():
        moments.absorb()
    return made


def facts(
    net: Net, terminated: Sequence[int] = (), truncated: Sequence[int] = (), absent: Sequence[int] = ()
) -> Rollout:
    """A rollout in which every row ends at the same steps."""
    flags = torch.zeros(3, STEPS, ROWS, dtype=torch.bool)
    for flag, steps in zip(flags, (terminated, truncated, absent), strict=True):
        flag[list(steps)] = True
    rollout = recorded(net, box_spec(ROWS), STEPS, EVERY, ROWS, seed=1, absent=0.0)
    first = torch.cat((torch.zeros_like(flags[0, :1]), flags.any(0)))
    age = torch.arange(STEPS).unsqueeze(1).expand(-1, ROWS)
    return replace(rollout, terminated=flags[0], truncated=flags[1], active=~flags[2], first=first, age=age)


def targets_of(net: Net, rollout: Rollout, **ppo: Any) -> Targets:
    return compute_targets(net, rollout, torch.zeros(ROWS, 0), PPOConfig(**ppo))


@torch.no_grad()
def critic(net: Net, observation: Any) -> Tensor:
    """Values `[T, N]` of observations `[T, N, ...]`."""
    normalized = net.critic_norm(observation)
    steps = torch.zeros(normalized.shape[:2] if isinstance(normalized, Tensor) else normalized[0].shape[:2])
    return net.values(normalized, torch.zeros(ROWS, 0), steps.bool())[0]


def one_step(net: Net, rollout: Rollout, gamma: float) -> tuple[Tensor, Tensor]:
    """Rewards less values `[T, N]`, and what bootstrapping adds."""
    assert isinstance(rollout.obs.critic, Tensor)
    return rollout.rewards - critic(net, rollout.obs.critic[:-1]), gamma * critic(net, rollout.final.critic)


def test_truncation_bootstraps_termination_does_not_and_both_are_termination(net: Net) -> None:
    rollout = facts(net, terminated=[2, 5], truncated=[3, 5])
    known, future = one_step(net, rollout, 0.9)
    advantages = targets_of(net, rollout, gamma=0.9, gae_lambda=0.0).advantages
    ended = torch.zeros(STEPS, 1)
    ended[[2, 5]] = 1
    torch.testing.assert_close(advantages, known + future * (1 - ended))
    assert float(future.std()) > 0.1 and bool((future.abs() > 1e-3).all())


def test_what_stands_for_the_future_at_a_timeout(net: Net) -> None:
    rollout = facts(net, terminated=[5], truncated=[3, 5])
    known, future = one_step(net, rollout, 0.9)
    acted_on = 0.9 * critic(net, rollout.obs.critic)[:-1]
    for choice, at_timeout in (("reached", future), ("acted_on", acted_on), ("none", torch.zeros_like(future))):
        delta = known + future
        delta[3], delta[5] = known[3] + at_timeout[3], known[5]
        targets = targets_of(net, rollout, gamma=0.9, gae_lambda=0.8, timeout_value=choice)
        for step in (3, 5, STEPS - 1):  # which no trace reaches
            torch.testing.assert_close(targets.advantages[step], delta[step])
        torch.testing.assert_close(targets.advantages[4], delta[4] + 0.72 * delta[5])
    assert float((acted_on - future)[3].abs().min()) > 1e-3


def test_no_trace_passes_an_end_and_the_rollouts_end_is_bootstrapped(net: Net) -> None:
    rollout = facts(net, terminated=[2], truncated=[5])
    known, future = one_step(net, rollout, 0.9)
    targets = targets_of(net, rollout, gamma=0.9, gae_lambda=0.8)
    delta = known + future
    delta[2] = known[2]
    for end in (2, 5, STEPS - 1):
        torch.testing.assert_close(targets.advantages[end], delta[end])
    for inside in (0, 1, 3, 4, 6, 7):
        expected = delta[inside] + 0.9 * 0.8 * targets.advantages[inside + 1]
        torch.testing.assert_close(targets.advantages[inside], expected)
    torch.testing.assert_close(targets.returns, targets.advantages + targets.values)


def test_two_rollouts_differ_from_one_only_by_the_bootstrap_in_between(net: Net) -> None:
    rollout = facts(net, truncated=[4])
    whole = targets_of(net, rollout)

    def part(begin: int, end: int) -> Rollout:
        fields = ("actions", "log_probs", "parameters", "rewards", "raw_rewards", "terminated", "truncated", "active")
        cut = {name: getattr(rollout, name)[begin:end] for name in (*fields, "age", "actor_states")}
        obs = tree_map(lambda x: x[begin : end + 1], rollout.obs.actor)
        final = tree_map(lambda x: x[begin:end], rollout.final.actor)
        first = rollout.first[begin : end + 1]
        return replace(rollout, **cut, first=first, obs=Obs(obs, obs, obs), final=Obs(final, final, final))  # type: ignore[arg-type]

    halves = torch.cat([targets_of(net, part(0, 5)).advantages, targets_of(net, part(5, STEPS)).advantages])
    torch.testing.assert_close(halves, whole.advantages)
    halves = torch.cat([targets_of(net, part(0, 7)).advantages, targets_of(net, part(7, STEPS)).advantages])
    torch.testing.assert_close(halves[7:], whole.advantages[7:])
    known, future = one_step(net, rollout, 0.99)
    torch.testing.assert_close(halves[6], (known + future)[6])


def test_max_ts_per_ep_cuts_and_bootstraps_by_age(net: Net) -> None:
    rollout = facts(net)
    cut = targets_of(net, rollout, max_ts_per_ep=3).advantages
    truncated = targets_of(net, facts(net, truncated=[2, 5, 8])).advantages
    torch.testing.assert_close(cut, truncated)
    assert not torch.allclose(cut, targets_of(net, rollout).advantages)


def test_the_environment_is_not_told_of_cuts_by_age() -> None:
    ppo = PPO(experiment(Toy(terminates=0.0, truncates=0.0), max_ts_per_ep=3, soft_resets=True))
    for _ in range(3):
        ppo.iterate()
    (rollout,) = ppo.collector.collect()
    assert ppo.env.resets == 1 and int(rollout.age[0, 0]) == 4 * 16 and not rollout.first.any()  # type: ignore[attr-defined]


def test_bootstrap_clip_bounds_the_future_and_nothing_else(net: Net) -> None:
    rollout = facts(net, truncated=[3])
    known, future = one_step(net, rollout, 1.0)
    targets = targets_of(net, rollout, gamma=1.0, gae_lambda=0.0, bootstrap_clip=(-0.1, 0.2))
    ends = rollout.truncated | rollout.terminated
    ends[-1] = True  # the rollout's end
    torch.testing.assert_close(targets.advantages, known + torch.where(ends, future.clamp(-0.1, 0.2), future))
    torch.testing.assert_close(targets.values, critic(net, rollout.obs.critic)[:-1])
    assert float(future.max()) > 0.2 and float(future.min()) < -0.1


def test_an_absent_row_weighs_nothing_and_is_no_ones_future(net: Net) -> None:
    rollout = facts(net, absent=[4, 5])
    targets = targets_of(net, rollout)
    assert targets.weights[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1]
    other = targets_of(net, with_garbage(rollout, 1e3))
    present = [0, 1, 2, 3, 6, 7, 8]
    assert torch.equal(targets.advantages[present], other.advantages[present])
    assert torch.equal(advantage_sums(targets)[:1], advantage_sums(other)[:1])
    known, future = one_step(net, rollout, 0.99)
    torch.testing.assert_close(targets.advantages[3], (known + future)[3])


@pytest.mark.parametrize("toy", [Toy(BOX, images=True), Toy(BOX, images=True, asymmetric=True)])
def test_sparse_finals_give_the_targets_of_dense_ones(toy: Toy) -> None:
    ppo = PPO(experiment(replace(toy, terminates=0.15, truncates=0.15), NET))
    ppo.iterate()
    group = ppo.groups[0]
    seen: list[Obs] = []
    step = ppo.env.step

    def remember(actions: tuple[Tensor, ...]) -> Any:
        result = step(actions)
        seen.append(result[0].final)
        return result

    ppo.collector.env.step = remember  # type: ignore[method-assign]
    (sparse,) = ppo.collector.collect()
    assert sparse.final_index is not None and 0 < len(sparse.final_index) < 16 * 4
    ended = (sparse.terminated | sparse.truncated).flatten().nonzero().squeeze(1)
    assert torch.equal(sparse.final_index, ended)
    actor = tree_map(lambda *x: torch.stack(x), *(obs.actor for obs in seen))
    same = seen[0].critic is seen[0].actor
    critics = actor if same else tree_map(lambda *x: torch.stack(x), *(obs.critic for obs in seen))
    dense = replace(sparse, final=Obs(actor, critics, sparse.obs.mask[1:]), final_index=None)
    config = PPOConfig()
    one, two = (compute_targets(group.net, rollout, group.carry, config) for rollout in (sparse, dense))
    torch.testing.assert_close(one.advantages, two.advantages)
    uncut = replace(dense, final=_shifted(sparse.obs), final_index=None)
    assert not torch.allclose(compute_targets(group.net, uncut, group.carry, config).advantages, one.advantages)


def _shifted(obs: Obs) -> Obs:
    """What a mistaken reader would take for finals: the next rows."""
    return Obs(tree_map(lambda x: x[1:], obs.actor), tree_map(lambda x: x[1:], obs.critic), obs.mask[1:])


def test_explained_variance_is_that_of_numpy() -> None:
    torch.manual_seed(0)
    values, noise = torch.randn(2, STEPS, ROWS, dtype=torch.float64)
    empty = torch.zeros(0)
    targets = Targets(values, noise * 0.5, values + noise * 0.5, torch.ones(STEPS, ROWS), empty, empty, values)
    expected = 1 - float((noise * 0.5).var() / targets.returns.var())
    assert explained_variance(advantage_sums(targets).tolist()) == pytest.approx(expected)
    flat = replace(targets, returns=torch.ones(STEPS, ROWS))
    assert math.isnan(explained_variance(advantage_sums(flat).tolist()))
