"""Moments that lose no precision, and statistics of whole episodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.stats import EpisodeTracker, FixedMoments, Moments, RecentEpisodes, pool, reduce_moments


def take_in(moments: Moments, samples: torch.Tensor, weight: torch.Tensor) -> None:
    moments.measure(samples, weight)
    reduce_moments(SoloComm(), [moments], torch.zeros(1, dtype=torch.float64))
    moments.absorb()


@pytest.mark.parametrize(("offset", "tolerance"), [(0.0, 1e-12), (1e3, 1e-12), (1e6, 1e-10)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_moments_of_chunks_are_those_of_all_the_data_in_spite_of_an_offset(
    shape: tuple[int, ...], offset: float, tolerance: float
) -> None:
    generator = np.random.default_rng(0)
    data = generator.normal(size=(1000, *shape)) + offset
    moments, at = Moments(shape), 0
    for size in (1, 7, 292, 700):
        take_in(moments, torch.from_numpy(data[at : at + size]), torch.ones(size))
        at += size
    mean = data.mean(0, dtype=np.longdouble)
    m2 = np.square(data - mean).sum(0, dtype=np.longdouble)
    assert float(moments.count) == 1000
    np.testing.assert_allclose(moments.mean.numpy(), mean.astype(float), rtol=tolerance, atol=1e-15)
    np.testing.assert_allclose(moments.m2.numpy(), m2.astype(float), rtol=tolerance)


def test_sets_pool_to_their_union() -> None:
    data = torch.randn(30, 4, dtype=torch.float64) + 1e3
    sets = [pool(torch.ones(len(part)).double(), part, torch.zeros(4)) for part in data.split([1, 9, 20])]
    empty = pool(torch.zeros(3).double(), data[:3], torch.zeros(4))
    lines = torch.stack([*sets, empty])
    together = pool(lines[:, 0], lines[:, 1:5], lines[:, 5:])
    expected = torch.cat((torch.tensor([30.0]), data.mean(0), data.var(0, correction=0) * 30))
    torch.testing.assert_close(together, expected.double(), rtol=1e-12, atol=0)


def test_samples_of_weight_0_change_nothing() -> None:
    torch.manual_seed(1)
    moments = Moments((2,))
    take_in(moments, torch.randn(5, 2), torch.ones(5))
    before = [moments.count.clone(), moments.mean.clone(), moments.m2.clone(), moments.inverse_std.clone()]
    take_in(moments, torch.full((3, 2), 1e9), torch.zeros(3))
    after = [moments.count, moments.mean, moments.m2, moments.inverse_std]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    mixed, plain = Moments((2,)), Moments((2,))
    data = torch.randn(6, 2)
    take_in(mixed, data, torch.tensor([1, 1, 0, 1, 0, 1]))
    take_in(plain, data[[0, 1, 3, 5]], torch.ones(4))
    torch.testing.assert_close(mixed.m2, plain.m2, rtol=1e-12, atol=0)


def test_normalisation_inverts_leaves_constants_alone_and_is_restored() -> None:
    moments, data = Moments((2,)), torch.stack((torch.randn(50) * 4 + 7, torch.full((50,), 3.0)), 1)
    assert torch.equal(moments.normalize(data), data)
    moments.measure(data, torch.ones(50))
    assert torch.equal(moments.normalize(data), data), "nothing moves before absorb"
    moments.absorb()
    normalized = moments.normalize(data)
    torch.testing.assert_close(normalized.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalized.std(0, correction=0), torch.tensor([1.0, 0.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(moments.denormalize(normalized), data)
    restored = Moments((2,))
    restored.load_state_dict(moments.state_dict())
    assert torch.equal(restored.normalize(data), normalized)


def test_fixed_moments_never_move() -> None:
    fixed = FixedMoments()
    take_in(fixed, torch.randn(9), torch.ones(9))
    assert torch.equal(fixed.normalize(torch.tensor([2.0])), torch.tensor([2.0]))


def test_episodes_are_those_of_a_plain_loop_over_several_rollouts() -> None:
    generator = np.random.default_rng(3)
    tracker, totals, lengths = EpisodeTracker(5), [0.0] * 5, [0] * 5
    for steps in (1, 13, 4, 30):
        rewards = generator.normal(size=(steps, 5)).astype(np.float32)
        ended, active = generator.random((steps, 5)) < 0.2, generator.random((steps, 5)) < 0.8
        expected = []
        for row in range(5):
            for step in range(steps):
                totals[row] += float(rewards[step, row]) if active[step, row] else 0.0
                lengths[row] += int(active[step, row])
                if ended[step, row]:
                    expected += [(totals[row], lengths[row])] if lengths[row] else []
                    totals[row], lengths[row] = 0.0, 0
        got = tracker.update(*(torch.from_numpy(x) for x in (rewards, ended, active)))
        sums = [len(expected), sum(total for total, _ in expected), sum(length for _, length in expected)]
        np.testing.assert_allclose(got.numpy(), sums, atol=1e-9)
    np.testing.assert_allclose(tracker.returns.numpy(), totals, atol=1e-9)
    assert tracker.lengths.tolist() == lengths
    assert any(lengths)
    tracker.restart()
    one = torch.ones(1, 5)
    assert tracker.update(one, one.bool(), one.bool()).tolist() == [5.0, 5.0, 5.0]


def test_recent_episodes_are_a_window_and_survive_saving() -> None:
    recent = RecentEpisodes(window=10)
    assert math.isnan(recent.means()[0])
    recent.add(0.0, 0.0, 0.0)
    recent.add(8.0, 80.0, 8.0)
    recent.add(4.0, 0.0, 8.0)
    assert recent.means() == (80 / 12, 16 / 12), "the older entry is still needed to reach ten"
    recent.add(6.0, 60.0, 6.0)
    assert recent.means() == (6.0, 1.4) and recent.total == 18
    copy = RecentEpisodes(window=10)
    copy.load_state(recent.state())
    assert copy.means() == recent.means() and copy.total == recent.total
