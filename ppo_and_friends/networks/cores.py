"""Memory between a body and its heads. The state is one tensor `[N, S]`; without memory, S = 0."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Core(Protocol):
    """What every core offers. F in, G out; `features` is G, `state_size` is S."""

    features: int
    state_size: int

    def start(self, rows: int) -> Tensor:
        """The state at the start of an episode, `[rows, S]` zeros."""
        ...

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x `[N, F]`, state `[N, S]` -> output `[N, G]` and the state after."""
        ...

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """x `[L, N, F]`, state `[N, S]` before row 0, first `[L, N]` bool (the state is zeroed before these)
        -> output `[L, N, G]` and the state after each step `[L, N, S]`."""
        ...


class IdentityCore(nn.Module):
    """No memory: what comes in goes out, and the state has no columns."""

    state_size = 0

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, 0)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(*x.shape[:2], 0)
