"""Adam over one flat buffer, in tensors alone, so that nothing waits for the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Share = tuple[slice, float, Tensor]  # a part of the buffer, the bound of its gradient's norm, its learning rate


@torch.no_grad()
def adam_(
    values: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    steps: Tensor,
    shares: Sequence[Share],
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    """One step of Adam (arXiv:1412.6980) in place, each share's gradient clipped by its own norm before.

    Args:
        values, gradient, first, second: `[P]`: parameters, their gradient, and Adam's two moments.
        steps: how many steps were taken, a scalar.
        shares: parts of the buffer that are clipped together.
        betas, eps: Adam's own.
    Returns:
        The norm of the whole gradient before the clip. Where it is not finite, nothing has changed.
    """
    beta1, beta2 = betas
    norm = torch.linalg.vector_norm(gradient)
    finite = norm.isfinite()
    steps += finite
    bias1 = (1 - beta1**steps).clamp_min(1e-8)
    bias2 = (1 - beta2**steps).clamp_min(1e-8).rsqrt()
    for where, limit, lr in shares:
        part, m, v = gradient[where], first[where], second[where]
        part_norm = norm if len(shares) == 1 else torch.linalg.vector_norm(part)
        # Times 0 where the whole gradient is bad: a share without a bad number must not move alone.
        scale = torch.where(finite, (limit / (part_norm + 1e-6)).clamp(max=1.0), 0.0)
        part = torch.nan_to_num(part, 0.0, 0.0, 0.0) * scale
        m.lerp_(part, (1 - beta1) * finite)
        v.lerp_(part.square(), (1 - beta2) * finite)
        values[where].sub_(m / (v.sqrt() * bias2 + eps) * (lr * finite / bias1))
    return norm
