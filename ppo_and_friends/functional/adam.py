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
    norms = [norm] if len(shares) == 1 else [torch.linalg.vector_norm(gradient[where]) for where, _, _ in shares]
    scales = [(limit / (own + 1e-6)).clamp(max=1.0) for (_, limit, _), own in zip(shares, norms, strict=True)]
    scale, lr = _spread(scales, shares), _spread([rate for *_, rate in shares], shares)
    # Nothing moves where the whole gradient is bad, not even a share without a bad number.
    clipped = torch.where(finite, gradient * scale, 0.0)
    first.lerp_(clipped, (1 - beta1) * finite)
    second.lerp_(clipped.square(), (1 - beta2) * finite)
    values.sub_(first / (second.sqrt() * bias2 + eps) * (lr * finite / bias1))
    return norm


def _spread(scalars: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
    """One number for each share, as a number for each parameter; a single one stays as it is."""
    if len(scalars) == 1:
        return scalars[0]
    widths = [where.stop - where.start for where, _, _ in shares]
    return torch.cat([scalar.expand(width) for scalar, width in zip(scalars, widths, strict=True)])
