"""The losses of PPO, per sample: every argument and result is `[L, B]` unless it says otherwise."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def surrogate_loss(ratio: Tensor, advantages: Tensor, clip: Tensor) -> Tensor:
    """-min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A) (arXiv:1707.06347, equation 7); clip is a scalar."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error, or the larger of it and that of the value moved by at most `clip`."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


class Losses(NamedTuple):
    """Terms per sample `[L, B]`; `total` is what is minimised."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    clipped: Tensor


def ppo_losses(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    entropy: Tensor,
    bounds: Tensor,
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    *,
    clip: Tensor,
    value_clip: float,
    value_weight: float,
    entropy_weight: Tensor | float,
    bounds_weight: float,
) -> Losses:
    """Everything that one sample contributes."""
    ratio = torch.exp(log_probs - old_log_probs)
    policy = surrogate_loss(ratio, advantages, clip)
    value = value_loss(values, old_values, returns, value_clip)
    total = policy + value_weight * value - entropy_weight * entropy + bounds_weight * bounds
    clipped = ((ratio - 1).abs() > clip).to(policy.dtype)
    return Losses(total, policy, value, entropy, clipped)
