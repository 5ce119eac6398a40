"""Tensors that steps of many rows need: constants, masks of rows, and writing where those say."""

from __future__ import annotations

import torch
from torch import Tensor

from ppo_and_friends.vector.sim.simulation import Simulation

_constants: dict[tuple[tuple[float, ...], torch.device, torch.dtype], Tensor] = {}


def beside(rows: Tensor, values: Tensor) -> Tensor:
    """`rows`, whose dimensions are the first of `values`', with as many dimensions as it."""
    return rows.view(*rows.shape, *(1,) * (values.dim() - rows.dim()))


def write_rows(target: Tensor, rows: Tensor, values: Tensor) -> None:
    """`target[rows] = values[rows]` ([N, ...], rows [N] bool) without asking the device how many rows there are."""
    if torch.compiler.is_compiling():  # it fuses the two, and knows no `out` within another tensor
        target.copy_(torch.where(beside(rows, target), values, target))
    else:
        torch.where(beside(rows, target), values, target, out=target)


def constant(values: tuple[float, ...], like: Simulation | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """[len(values)] where `like` is and, unless told otherwise, of its dtype; made once, so nobody may write it."""
    key = (values, like.device, dtype or like.dtype)
    if key not in _constants:  # a plain dictionary: a compiler looks into it, where it would see past a cache
        _constants[key] = torch.tensor(values, device=key[1], dtype=key[2])
    return _constants[key]
