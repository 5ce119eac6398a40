"""Advantages from rewards and values."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, cut: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalized advantage estimation (arXiv:1506.02438).

        delta_t     = r_t + gamma * V(what the action led to) * (not terminated) - V_t
        advantage_t = delta_t + gamma * lam * advantage_{t+1} * (not cut)

    Args:
        rewards: `[T, N]`.
        values: `[T, N]`, of the observation that the action was taken in.
        next_values: `[T, N]`, of what the action led to, before any reset.
        terminated: `[T, N]` bool, no future: the next value does not count.
        cut: `[T, N]` bool, the next row belongs to another trajectory (terminated, truncated, cut by age).
        gamma: discount in [0, 1].
        lam: trace decay in [0, 1].
    Returns:
        `[T, N]`. The end of the rollout is not a cut: the last row bootstraps from its own next value.
    """
    deltas = rewards + gamma * next_values * ~terminated - values
    decay = gamma * lam * (~(cut | terminated)).to(deltas.dtype)
    advantages = torch.empty_like(deltas)
    running = torch.zeros_like(deltas[0])
    rows = zip(deltas.unbind(), decay.unbind(), advantages.unbind(), strict=True)
    for delta, factor, row in reversed(list(rows)):
        running = torch.addcmul(delta, factor, running, out=row)
    return advantages


def discounted_sums(rewards: Tensor, ended: Tensor, start: Tensor, gamma: float) -> Tensor:
    """R_t = gamma * R_{t-1} * (t starts no episode) + r_t, from `start` `[N]` before row 0; `[T, N]`.

    `ended[t]` `[T, N]` says that row t was the last of its episode. This is the quantity whose spread
    scales rewards.
    """
    sums = torch.empty_like(rewards)
    decay = gamma * (~ended).to(rewards.dtype)
    running, factor = start, torch.full_like(start, gamma)
    for reward, row, following in zip(rewards.unbind(), sums.unbind(), decay.unbind(), strict=True):
        running = torch.addcmul(reward, running, factor, out=row)
        factor = following
    return sums
