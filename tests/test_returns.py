"""Advantages and discounted sums against plain loops and numbers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ppo_and_friends.functional.returns import discounted_sums, gae


def plain_gae(
    rewards: Tensor, values: Tensor, following: Tensor, terminated: Tensor, cut: Tensor, gamma: float, lam: float
) -> Tensor:
    """The sum of discounted errors up to the first cut, from its definition."""
    steps, rows = rewards.shape
    advantages = torch.zeros(steps, rows, dtype=torch.float64)
    for row in range(rows):
        for start in range(steps):
            weight = 1.0
            for t in range(start, steps):
                future = 0.0 if terminated[t, row] else gamma * float(following[t, row])
                advantages[start, row] += weight * (float(rewards[t, row]) + future - float(values[t, row]))
                if cut[t, row] or terminated[t, row]:
                    break
                weight *= gamma * lam
    return advantages


@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.0, 0.5)])
def test_gae_is_the_sum_of_discounted_errors_up_to_the_first_cut(gamma: float, lam: float) -> None:
    torch.manual_seed(0)
    rewards, values, following = torch.randn(3, 17, 6, dtype=torch.float64)
    terminated, truncated = torch.rand(17, 6) < 0.15, torch.rand(17, 6) < 0.15
    cut = terminated | truncated
    expected = plain_gae(rewards, values, following, terminated, cut, gamma, lam)
    torch.testing.assert_close(gae(rewards, values, following, terminated, cut, gamma, lam), expected)
    # a terminated row is a cut whether or not the caller says so
    torch.testing.assert_close(gae(rewards, values, following, terminated, truncated, gamma, lam), expected)


def test_gae_with_lambda_1_is_the_discounted_return_less_the_value() -> None:
    steps, gamma = 8, 0.9
    ones, no = torch.ones(steps, 1, dtype=torch.float64), torch.zeros(steps, 1, dtype=torch.bool)
    values = torch.full_like(ones, 4.0)
    advantages = gae(ones, values, values, no, no, gamma, 1.0)
    left = torch.arange(steps, 0, -1, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(advantages, (1 - gamma**left) / (1 - gamma) + gamma**left * 4 - 4)


def test_discounted_sums_start_where_the_last_rollout_ended_and_restart_after_ends() -> None:
    rewards = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    ended = torch.tensor([[False, False], [True, False], [False, False]])
    sums = discounted_sums(rewards, ended, torch.tensor([10.0, 0.0]), 0.5)
    assert sums.tolist() == [[6.0, 1.0], [5.0, 2.5], [4.0, 5.25]]
