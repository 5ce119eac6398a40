"""A body and a distribution of your own, for vectors and continuous actions:

python main.py -e Pendulum --net.distribution auto --net.actor.custom examples/my_nets.py:Shortcut \
    --net.critic.custom examples/my_nets.py:Shortcut --net.custom_distribution examples/my_nets.py:Laplace
"""

import math

import torch
from torch import Generator, Tensor, nn

from ppo_and_friends.config import BodyConfig
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.types import TensorSpec, Tree, leaves


class Shortcut(nn.Module):
    """Two layers, and the observation beside them."""

    recordable = True  # nothing in it waits for a number: it may run in a CUDA graph

    def __init__(self, specs: tuple[TensorSpec, ...], config: BodyConfig) -> None:
        super().__init__()
        width = sum(spec.shape[0] for spec in specs)
        self.layers = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.features = 64 + width

    def forward(self, observation: Tree) -> Tensor:
        seen = torch.cat(leaves(observation), -1)
        return torch.cat((self.layers(seen), seen), -1)


class Laplace(Gaussian):
    """Heavier tails than a Gaussian's: it explores farther now and then. Parameters are means and log-scales."""

    recordable = True

    def draws(self, steps: int, rows: int, generator: Generator) -> Tensor:
        waits = self.anchor.new_empty(2, steps, rows, self.columns).exponential_(generator=generator)
        return waits[0] - waits[1]

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        mean, log_scale = parameters.chunk(2, -1)
        return -((actions - mean).abs() / log_scale.exp() + log_scale + math.log(2)).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        return (parameters.chunk(2, -1)[1] + 1 + math.log(2)).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        (mean, log_scale), (new_mean, new_log_scale) = old.chunk(2, -1), new.chunk(2, -1)
        distance, scale = (mean - new_mean).abs(), log_scale.exp()
        overlap = scale * torch.exp(-distance / scale) + distance
        return (new_log_scale - log_scale + overlap / new_log_scale.exp() - 1).sum(-1)
