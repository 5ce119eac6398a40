"""Actions as numbers that a network may read, and as what it may predict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import ActionSpace


class ActionCode(nn.Module):
    """`[..., columns]` to `[..., width]`: one-hot columns, or for a box its own columns, those with bounds in [-1, 1].

    Raises:
        UserError: actions of another kind than Discrete, MultiDiscrete, MultiBinary and Box.
    """

    column: Tensor  # which column of an action each number of the code is about
    start: Tensor  # a box: what becomes 0; otherwise: the value that becomes 1
    stretch: Tensor

    def __init__(self, space: ActionSpace, owner: str) -> None:
        super().__init__()
        self.box, self.sizes = space.kind == "box", list(space.sizes)
        if not self.box and not self.sizes:
            raise UserError(
                f"{owner} cannot predict actions of kind '{space.kind}': "
                "take an environment with Discrete, MultiDiscrete, MultiBinary or Box actions, or leave the add-on out."
            )
        if self.box:
            low, high = torch.tensor(space.low), torch.tensor(space.high)
            bounded = (high - low).isfinite()
            column = torch.arange(space.columns)
            start = torch.where(bounded, (low + high) / 2, 0.0)
            stretch = torch.where(bounded, 2 / (high - low).clamp_min(1e-8), 1.0)
        else:
            column = torch.cat([torch.full((size,), number) for number, size in enumerate(self.sizes)])
            start = torch.cat([torch.arange(size) for size in self.sizes])
            stretch = torch.ones(len(start))
        self.width = len(start)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("stretch", stretch, persistent=False)

    def forward(self, actions: Tensor) -> Tensor:
        """Of actions in the environment's own units."""
        if self.box:
            return (actions - self.start) * self.stretch
        return (actions[..., self.column] == self.start).to(self.stretch.dtype)

    def loss(self, predicted: Tensor, code: Tensor) -> Tensor:
        """Minus the log-probability `[...]` of `code` where `predicted` `[..., width]` are logits, or half the squared
        distance from it (a Gaussian of standard deviation 1)."""
        if self.box:
            return 0.5 * (predicted - code).square().sum(-1)
        logs = torch.cat([part.log_softmax(-1) for part in predicted.split(self.sizes, -1)], -1)
        return -(logs * code).sum(-1)
