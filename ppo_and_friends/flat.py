"""All that is trained as one buffer, and its gradient as another: broadcast, reduce, clip, zero and step are one line
each, and none can forget a member."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A module whose parameters share a bound of their gradient's norm and a learning rate."""

    module: nn.Module
    max_grad_norm: float


class FlatParameters:
    """Parameters and gradients of several parts as views of two buffers.

    `reduced` is `[P + tail]`: the gradient, and behind it numbers that travel with it to all ranks.
    """

    def __init__(self, parts: list[Part], tail: int) -> None:
        owned: dict[int, nn.Parameter] = {}
        self.parts: list[tuple[Part, slice]] = []
        for part in parts:
            start = sum(parameter.numel() for parameter in owned.values())
            new = {id(p): p for p in part.module.parameters() if id(p) not in owned}
            owned.update(new)
            self.parts.append((part, slice(start, start + sum(p.numel() for p in new.values()))))
        self.parameters = list(owned.values())
        self.size = sum(p.numel() for p in self.parameters)
        device = self.parameters[0].device
        self.values = torch.empty(self.size, device=device)
        self.reduced = torch.zeros(self.size + tail, device=device)
        self.gradient, self.tail = self.reduced[: self.size], self.reduced[self.size :]
        self._bind()

    @torch.no_grad()
    def _bind(self) -> None:
        self.values.copy_(torch.cat([parameter.flatten() for parameter in self.parameters]))
        for parameter, value, gradient in zip(
            self.parameters, self.views(self.values), self.views(self.gradient), strict=True
        ):
            parameter.data, parameter.grad = value, gradient

    def views(self, buffer: Tensor) -> list[Tensor]:
        """A `[P]` buffer in the shapes of the parameters, in their order."""
        parts = buffer.split([parameter.numel() for parameter in self.parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)]

    def zero_(self) -> None:
        """Clear gradient and tail."""
        self.reduced.zero_()
