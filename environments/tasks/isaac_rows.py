"""Rows of tensors: those that start anew, and what Isaac Gym lets a policy see of them."""

from __future__ import annotations

import torch
from torch import Tensor

OBSERVATION_CLIP = 5.0


def write_rows(target: Tensor, rows: Tensor, values: Tensor) -> None:
    """`target[rows] = values[rows]` ([N, ...], rows [N] bool) without asking the device how many rows there are."""
    target.copy_(torch.where(rows.view(-1, *(1,) * (target.dim() - 1)), values, target))


def clipped(parts: tuple[Tensor, ...]) -> Tensor:
    """`parts` ([N, *]) in order, `[N, D]`, each number within +-5."""
    return torch.cat(parts, 1).clamp(-OBSERVATION_CLIP, OBSERVATION_CLIP)
