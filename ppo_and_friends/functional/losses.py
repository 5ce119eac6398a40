"""The losses of PPO, per sample: every argument and result is `[L, B]` unless it says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


def hard_clip(ratio: Tensor, clip: Tensor) -> Tensor:
    """The ratio within 1 +- clip; clip is a scalar."""
    return ratio.clamp(1 - clip, 1 + clip)


def smooth_clip(ratio: Tensor, clip: Tensor) -> Tensor:
    """1 + clip * tanh((ratio - 1) / clip): within 1 +- clip without a corner, and with a gradient everywhere.

    rl_games' smooth_clamp, which writes it with a logistic function."""
    width = clip.clamp(1e-6, 1e6)  # neither 0 / 0 nor infinity * 0
    return 1 + width * torch.tanh((ratio - 1) / width)


CLIPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hard": hard_clip, "smooth": smooth_clip}


def surrogate_loss(ratio: Tensor, advantages: Tensor, clip: Tensor, shape: str = "hard") -> Tensor:
    """-min(ratio * A, clipped ratio * A) (arXiv:1707.06347, equation 7); clip is a scalar, shape one of `CLIPS`."""
    return -torch.minimum(ratio * advantages, CLIPS[shape](ratio, clip) * advantages)


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
    clip_shape: str,
    value_clip: float,
    value_weight: float,
    entropy_weight: Tensor | float,
    bounds_weight: float,
) -> Losses:
    """Everything that one sample contributes."""
    ratio = torch.exp(log_probs - old_log_probs)
    policy = surrogate_loss(ratio, advantages, clip, clip_shape)
    value = value_loss(values, old_values, returns, value_clip)
    total = policy + value_weight * value - entropy_weight * entropy + bounds_weight * bounds
    clipped = ((ratio - 1).abs() > clip).to(policy.dtype)
    return Losses(total, policy, value, entropy, clipped)
