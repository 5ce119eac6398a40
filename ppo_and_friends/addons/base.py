"""The hooks by which a friend attaches. Each does nothing unless it is overridden."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Generator, Tensor, nn

from ppo_and_friends.comm import Comm
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.schedules import Progress
from ppo_and_friends.stats import Moments
from ppo_and_friends.types import GroupSpec

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO


# Places of add-ons in the rewards' way.
RAW, SETTINGS, SCALED, COPIES = range(4)


@dataclass(frozen=True)
class Context:
    """What an add-on may look at while it transforms a rollout."""

    net: Net
    comm: Comm
    progress: Progress
    generator: Generator


class Addon(nn.Module):
    """A friend of PPO. Parameters it has live in the flat buffer; its `Moments` ride in the rollout's reduction.

    max_grad_norm and lr are its own; lr 0 means the policy's. An add-on that is `recordable` may run in a CUDA graph:
    its hooks, those around an iteration apart, never wait for the device, read nothing of `Context.progress`, and keep
    what changes in tensors in place.

    logs     names of what `transform` appends to `Rollout.logs`; its mean is the metric `rollout_NAME`
    reports  names of what `loss` gives behind its first entry; the mean over the update is the metric of that name
    needs    how many tensors `extras` gives
    copies   by how much `transform` multiplies the rows of a rollout
    place    when it transforms a rollout: before the settings' own scaling and clipping (RAW), after it, or last
             (COPIES); those of one place in the launcher's order
    invents  whether it learns from situations that were not played, of which a net with memory remembers nothing
    trains   whether it has a loss, also without parameters of its own
    plays    whether it gives weights to groups that do not learn, such as the opponent of `SelfPlay`
    """

    max_grad_norm: float = math.inf
    lr: float = 0.0
    recordable: bool = False
    logs: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    needs: int = 0
    copies: int = 1
    place: int = SCALED
    invents: bool = False
    trains: bool = False
    plays: bool = False

    def all_moments(self) -> list[Moments]:
        """All that it measures."""
        return [module for module in self.modules() if isinstance(module, Moments)]

    def seeded_moments(self) -> list[Moments]:
        """Those that the short rollout before the first one seeds, whose observations are not normalised yet."""
        return self.all_moments()

    def begin_iteration(self, progress: Progress) -> None:
        """Called before each rollout that is learned from, of which `progress` is: for what goes by a schedule."""

    def transform(self, rollout: Rollout, context: Context) -> Rollout:
        """Change what will be learned from (rewards mostly), before targets are computed."""
        return rollout

    def extras(self, rollout: Rollout, context: Context) -> tuple[Tensor, ...]:
        """What `loss` will find of each sample in `Batch.extras`, `[T, N, ...]` each, `needs` of them; of the rollout
        that every `transform` has been through. Asked of add-ons that train."""
        return ()

    def loss(self, batch: Batch, net: Net) -> tuple[Tensor, ...]:
        """What this add-on's own parameters, or the policy's, minimise, `[L, B]`, and behind it a tensor `[L, B]` for
        each of `reports`. It may be compiled: a function of the batch, of parameters and of buffers, which are written
        in place and never bound anew."""
        return (torch.zeros_like(batch.weights),)

    def end_iteration(self, ppo: PPO) -> dict[str, float] | None:
        """Called after the update and its counting, with all ranks at the same place: `ppo.progress` is that of the
        next rollout. Numbers it returns, the same on every rank, are metrics of this iteration."""

    def state(self) -> dict[str, Any]:
        """What this rank alone knows and resuming needs; parameters and buffers are saved already."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...


class AddonConfig(Protocol):
    """A frozen dataclass in `Experiment.addons`."""

    def make(self, spec: GroupSpec) -> Addon: ...
