"""All trainable state as one buffer: parameters, gradients and Adam's moments, each a view or a slice of it.

Broadcast, reduce, clip, zero and step are one line each here, and none can forget a member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A module whose parameters share a clip and a learning rate."""

    name: str
    module: nn.Module
    max_grad_norm: float
    lr: Tensor  # scalar; whoever owns it writes it in place


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
        start = 0
        for parameter in self.parameters:
            end = start + parameter.numel()
            self.values[start:end] = parameter.flatten()
            parameter.data = self.values[start:end].view_as(parameter)
            parameter.grad = self.gradient[start:end].view_as(parameter)
            start = end

    def zero_(self) -> None:
        """Clear gradient and tail."""
        self.reduced.zero_()


class FlatAdam:
    """Adam (arXiv:1412.6980) over `FlatParameters`, with a norm clip and a learning rate for each part.

    All in tensors, so that nothing waits for the host: an update whose gradient is not finite changes nothing.
    """

    def __init__(self, flat: FlatParameters, betas: tuple[float, float], eps: float) -> None:
        self.flat, self.betas, self.eps = flat, betas, eps
        self.first = torch.zeros_like(flat.values)
        self.second = torch.zeros_like(flat.values)
        self.steps = torch.zeros((), device=flat.values.device)
        self.scratch = torch.empty_like(flat.values)

    @torch.no_grad()
    def step(self, weight: Tensor) -> Tensor:
        """Divide the summed gradient by `weight`, clip, and move. Returns the gradient's norm before the clip."""
        beta1, beta2 = self.betas
        flat = self.flat
        flat.gradient.div_(weight.clamp_min(1e-8))
        norm = torch.linalg.vector_norm(flat.gradient)
        finite = norm.isfinite()
        flat.gradient.nan_to_num_(0.0, 0.0, 0.0)
        self.steps += finite
        for part, where in flat.parts:
            gradient, first, second = flat.gradient[where], self.first[where], self.second[where]
            part_norm = norm if len(flat.parts) == 1 else torch.linalg.vector_norm(gradient)
            gradient *= (part.max_grad_norm / (part_norm + 1e-6)).clamp(max=1.0).nan_to_num(0.0)
            first.lerp_(gradient, (1 - beta1) * finite)
            second.lerp_(gradient.square(), (1 - beta2) * finite)
            scale = part.lr * finite / (1 - beta1**self.steps).clamp_min(1e-8)
            correction = (1 - beta2**self.steps).clamp_min(1e-8).rsqrt()
            torch.sqrt(second, out=self.scratch[where])
            denominator = self.scratch[where].mul_(correction).add_(self.eps)
            flat.values[where].sub_(first.div(denominator).mul_(scale))
        return norm

    def state(self) -> dict[str, Any]:
        return {"first": self.first.clone(), "second": self.second.clone(), "steps": self.steps.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps.copy_(state["steps"])
