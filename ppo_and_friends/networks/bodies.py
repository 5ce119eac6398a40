"""From observations to features: convolutions where a part has axes, then fully connected layers."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from ppo_and_friends.errors import UserError
from ppo_and_friends.net_config import Activation, BodyConfig
from ppo_and_friends.networks.own import own_body
from ppo_and_friends.networks.residual import halved, residual_layers
from ppo_and_friends.networks.split import Split
from ppo_and_friends.types import TensorSpec, Tree, leaves

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class BodyModule(Protocol):
    """A callable module with the width of its output."""

    features: int

    def __call__(self, observation: Tree) -> Tensor: ...


class Encoder(nn.Module):
    """One part of an observation, `[..., *shape]`, to a vector `[..., features]`."""

    def __init__(self, spec: TensorSpec, config: BodyConfig) -> None:
        super().__init__()
        self.axes, self.image = len(spec.shape), spec.dtype == torch.uint8
        sizes, channels, layers = list(spec.shape[1:]), spec.shape[0] if spec.shape else 1, []
        if config.residual and self.axes == 3:
            layers = residual_layers(channels, config.residual)
            channels, sizes = config.residual[-1], [halved(size, len(config.residual)) for size in sizes]
        elif _fits(spec, config):
            convolution = (nn.Conv1d, nn.Conv2d)[self.axes - 2]
            for width, kernel, stride in config.convolutions:
                layers += [convolution(channels, width, kernel, stride), ACTIVATIONS[config.activation]()]
                sizes = [(size - kernel) // stride + 1 for size in sizes]
                channels = width
        self.layers = nn.Sequential(*layers)
        self.features = channels
        for size in sizes:
            self.features *= size

    def forward(self, part: Tensor) -> Tensor:
        leading = part.shape[: part.dim() - self.axes]
        if self.image:
            part = part.float() * (1 / 255)
        if len(self.layers):
            part = self.layers(part.reshape(-1, *part.shape[len(leading) :]))
        return part if self.axes == 1 else part.reshape(*leading, -1)


def _fits(spec: TensorSpec, config: BodyConfig) -> bool:
    """Whether convolutions apply; small arrays of floats are flattened instead, small images are refused."""
    if len(spec.shape) not in (2, 3) or not config.convolutions:
        return False
    sizes = list(spec.shape[1:])
    for _, kernel, stride in config.convolutions:
        sizes = [(size - kernel) // stride + 1 if size >= kernel else 0 for size in sizes]
    if min(sizes) < 1 and spec.dtype == torch.uint8:
        raise UserError(
            f"Images of shape {spec.shape} are too small for the convolutions {config.convolutions}: "
            "give smaller kernels and strides, or none, in net.actor.convolutions and net.critic.convolutions, "
            "or in the settings of the add-on that looks at them."
        )
    return min(sizes) >= 1


def _encoder(spec: TensorSpec, config: BodyConfig) -> nn.Module:
    if config.split and len(spec.shape) == 1:
        return Split(spec, config.split, config.split_hidden, ACTIVATIONS[config.activation])
    return Encoder(spec, config)


class Body(nn.Module):
    """Each part through its encoder, joined, then `config.hidden` layers, each followed by the activation."""

    def __init__(self, specs: tuple[TensorSpec, ...], config: BodyConfig) -> None:
        super().__init__()
        if config.split and not any(len(spec.shape) == 1 for spec in specs):
            raise UserError(
                f"net: split is {config.split!r}, but no part of what is observed is a vector: leave it out."
            )
        self.encoders = nn.ModuleList(_encoder(spec, config) for spec in specs)
        widths = [sum(int(encoder.features) for encoder in self.encoders), *config.hidden]  # type: ignore[arg-type]
        layers = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), ACTIVATIONS[config.activation]()]
        self.layers = nn.Sequential(*layers)
        self.features = widths[-1]

    def forward(self, observation: Tree) -> Tensor:
        parts = [encoder(part) for encoder, part in zip(self.encoders, leaves(observation), strict=True)]
        return self.layers(parts[0] if len(parts) == 1 else torch.cat(parts, -1))


def make_body(specs: tuple[TensorSpec, ...], config: BodyConfig) -> BodyModule:
    """The body a config asks for.

    Raises:
        UserError: an image is too small for the convolutions, or a custom body cannot be used.
    """
    if config.custom:
        return own_body(config.custom, specs, config)
    return Body(specs, config)
