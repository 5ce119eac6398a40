"""What an add-on is given, and where what it says goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import BOX, Toy, experiment

from ppo_and_friends.addons.base import Addon, Context
from ppo_and_friends.addons.rewards import Scaler
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Net
from ppo_and_friends.ppo import PPO
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.types import GroupSpec, leaves


@dataclass(frozen=True)
class Spy:
    """Asks for two tensors that tell which step and row a sample is, reports them, and logs a number of each step."""

    name: str

    def make(self, spec: GroupSpec) -> Addon:
        return _Spy(self.name, spec.rows)


class _Spy(Addon):
    needs = 2

    def __init__(self, name: str, rows: int) -> None:
        super().__init__()
        self.logs, self.reports = (f"{name}_log",), (f"{name}_steps", f"{name}_absent")
        self.head, self.offset = nn.Linear(1, 1), 1000.0 * len(name)
        self.seen: list[tuple[Tensor, ...]] = []
        self.progress: list[int] = []

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        ages = torch.arange(len(rollout.rewards)).unsqueeze(1).expand_as(rollout.rewards) + self.offset
        return replace(rollout, logs=torch.cat((rollout.logs, ages.unsqueeze(1)), 1))

    def extras(self, rollout: Rollout, context: Context) -> tuple[Tensor, ...]:
        return rollout.logs[:, -1] + self.offset, (~rollout.active).float()

    def loss(self, batch: Batch, net: Net) -> tuple[Tensor, ...]:
        steps, absent = batch.extras
        self.seen.append((steps, absent, batch.weights))
        return self.head(steps.unsqueeze(-1)).squeeze(-1) * 0, steps, absent

    def end_iteration(self, ppo: PPO) -> None:
        self.progress.append(ppo.progress.timesteps)


def test_each_addon_finds_its_own_and_reports_means_over_samples_that_count() -> None:
    config = experiment(Toy(BOX, absent=0.3), addons=(Spy("a"), Spy("bb")), minibatches=5)
    ppo = PPO(config)
    metrics = ppo.iterate()
    first, second = (addon for addon in ppo.groups[0].addons if isinstance(addon, _Spy))
    for spy, offset in ((first, 1000), (second, 2000)):
        # what is asked for is that of the rollout after every transform: the logs of the last add-on
        assert all(float(steps.min()) >= 2000 + offset for steps, *_ in spy.seen)
        samples = torch.cat([torch.stack(seen).flatten(1) for seen in spy.seen], 1)
        steps, absent, weights = samples
        assert weights[absent > 0].sum() == 0 and weights.sum() < weights.numel()
        expected = float((steps * weights).sum() / weights.sum())
        name = "a" if offset == 1000 else "bb"
        assert metrics[f"{name}_steps"] == pytest.approx(expected) and metrics[f"{name}_absent"] == 0
        there = ppo.groups[0].rows.active
        ages = offset + torch.arange(len(there), dtype=torch.float64).unsqueeze(1)
        assert metrics[f"rollout_{name}_log"] == pytest.approx(float((ages * there).sum() / there.sum()))
        assert spy.progress == [ppo.timesteps]
    assert metrics["rollout_luck"] > 0 and metrics["kl"] < 1


def test_nothing_is_carried_where_nothing_is_asked_for() -> None:
    ppo = PPO(experiment(Toy(BOX)))
    batches, sums = ppo.digest(ppo.collect())
    group = ppo.groups[0]
    assert batches[0].extras == () and group.learner.flat.tail.numel() == 10 and len(sums) == 9


@pytest.mark.parametrize("images", [False, True])
def test_what_an_action_led_to_is_before_the_reset(images: bool) -> None:
    ppo = PPO(experiment(Toy(BOX, images=images, terminates=0.2, truncates=0.2), rows=3))
    step, finals = ppo.env.step, []

    def watched(actions: Any) -> Any:
        (result,) = step(actions)
        finals.append([part.clone() for part in leaves(result.final.actor)])
        return (result,)

    ppo.env.step = watched
    (rollout,) = ppo.collector.collect()
    assert (rollout.final_index is not None) == images and bool(rollout.ended.any())
    following = [part[1:] for part in leaves(rollout.obs.actor)]
    for reached, after, *expected in zip(leaves(rollout.reached), following, *finals, strict=True):
        assert torch.equal(reached, torch.stack(expected))
        assert not torch.equal(reached, after), "which has the new starts"


@pytest.mark.parametrize("soft", [True, False])
def test_the_return_that_scales_rewards_goes_on_from_rollout_to_rollout(soft: bool) -> None:
    ppo = PPO(experiment(Toy(BOX, terminates=0.2, absent=0.3), rows=3, soft_resets=soft))
    (scaler,) = (addon for addon in ppo.groups[0].addons if isinstance(addon, Scaler))
    measured: list[Tensor] = []
    scaler.moments.measure = lambda sums, weights: measured.append(sums.clone())  # type: ignore[method-assign]
    total, gamma, expected = torch.zeros(3), ppo.experiment.ppo.gamma, []
    context = Context(ppo.groups[0].net, ppo.comm, ppo.progress, ppo.generator)
    for _ in range(3):
        (rollout,) = ppo.collector.collect()
        scaler.transform(rollout, context)
        total = total if soft else torch.zeros(3)
        for reward, active, ended in zip(rollout.rewards, rollout.active, rollout.ended, strict=True):
            total = torch.where(active, reward, 0) + gamma * total
            expected.append(total)
            total = torch.where(ended, 0, total)
    torch.testing.assert_close(torch.cat(measured), torch.stack(expected))
