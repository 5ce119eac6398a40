"""Who acts in each group of an environment's rows: groups that learn, and frozen ones that play snapshots."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ppo_and_friends.comm import Comm
from ppo_and_friends.config import Experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.group import Group
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rows import Rows
from ppo_and_friends.types import GroupSpec, Spec

Metrics = dict[str, float]


class Frozen:
    """A group that acts and does not learn: its net holds a snapshot of weights, until it is given others.

    played  whether it was ever given any: otherwise it acts as the learner was made
    """

    def __init__(self, spec: GroupSpec, experiment: Experiment, steps: int, generator: Generator) -> None:
        self.spec = spec
        self.net = Net(spec, experiment.net, experiment.ppo).to(generator.device)
        self.rows = Rows(spec, self.net, steps, experiment.net.length, generator)
        self.played = False

    def play(self, weights: dict[str, Tensor]) -> None:
        """Act from now on as the net whose state dict this is. Give all ranks the same."""
        self.net.load_state_dict(weights)
        self.played = True


def make_players(
    spec: Spec, experiment: Experiment, comm: Comm, steps: int, generator: Generator
) -> list[Group | Frozen]:
    """One for each group of `spec`. A frozen one begins as the first that learns and has the same spaces.

    Raises:
        UserError: no group learns.
    """
    players = [
        Group(group, experiment, comm, steps, generator)
        if group.learns
        else Frozen(group, experiment, steps, generator)
        for group in spec.groups
    ]
    learning = [player for player in players if isinstance(player, Group)]
    if not learning:
        raise UserError(f"{spec.task} has no group that learns: let at least one.")
    for player in players:
        alike = [group for group in learning if _spaces(group.rows.spec) == _spaces(player.rows.spec)]
        if isinstance(player, Frozen) and alike:
            player.net.load_state_dict(alike[0].net.state_dict())
    return players


def _spaces(spec: GroupSpec) -> tuple[Any, ...]:
    shapes = tuple(tuple((part.shape, part.dtype) for part in parts) for parts in (spec.actor, spec.critic))
    return *shapes, spec.action, spec.mask, spec.symmetric


class Players:
    """All groups of a run, in the environment's order."""

    def __init__(self, players: list[Group | Frozen]) -> None:
        self.all = players
        self.learning = [player for player in players if isinstance(player, Group)]
        self.frozen = {player.spec.name: player for player in players if isinstance(player, Frozen)}
        self.names = [group.rows.spec.name for group in self.learning]
        self.agents = sum(len(group.rows.spec.agents) for group in self.learning)

    def check_played(self, task: str) -> None:
        """Raise UserError where a group that does not learn was given no weights, and no add-on gives it any."""
        untrained = [name for name, player in self.frozen.items() if not player.played]
        if untrained and not any(addon.plays for group in self.learning for addon in group.addons):
            raise UserError(
                f"The group '{untrained[0]}' of {task} does not learn and would stay untrained, because no add-on "
                "plays it: give a game of SelfPlay addons=(Snapshots(),) of ppo_and_friends.addons.snapshots, or the "
                f"group weights, ppo.players.frozen['{untrained[0]}'].play(weights)."
            )

    def learners(self, each: list[Any]) -> list[Any]:
        """Those entries of one for each group that belong to groups that learn."""
        return [entry for entry, player in zip(each, self.all, strict=True) if isinstance(player, Group)]

    def named(self, name: str, metrics: Metrics) -> Metrics:
        """Metrics of one group, under its name where others have them too."""
        return metrics if len(self.learning) == 1 else {f"{name}/{key}": value for key, value in metrics.items()}

    def scores(self) -> tuple[float, float]:
        """Mean return of recent episodes, summed over the agents that learn, and their mean length."""
        means = [group.recent.means() for group in self.learning]
        return sum(returns for returns, _ in means), max(lengths for _, lengths in means)

    def episodes(self) -> Metrics:
        """What recent episodes were like."""
        mean_return, mean_length = self.scores()
        metrics = {
            "episodes": max(group.recent.total for group in self.learning),
            "mean_return": mean_return,
            "mean_length": mean_length,
        }
        if self.agents == 1:
            return metrics
        for name, group in zip(self.names, self.learning, strict=True):
            returns, length = group.recent.means()
            each = returns / len(group.rows.spec.agents)
            own = {"mean_return": returns, "mean_agent_return": each, "mean_length": length}
            metrics |= self.named(name, own)
        return metrics

    def state(self) -> dict[str, Any]:
        """What is the same on every rank, beside the groups' own: no entry more than one group needs."""
        others = [group.recent.state() for group in self.learning[1:]]
        nets = {name: _copy(player.net.state_dict()) for name, player in self.frozen.items()}
        found = {"recent": self.learning[0].recent.state(), "recent_others": others, "frozen": nets}
        return {name: value for name, value in found.items() if value}

    def load_state(self, state: dict[str, Any]) -> None:
        recent = [state["recent"], *state.get("recent_others", [])]
        for group, saved in zip(self.learning, recent, strict=True):
            group.recent.load_state(saved)
        for name, weights in state.get("frozen", {}).items():
            self.frozen[name].play(weights)


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.clone(tensor) for name, tensor in weights.items()}
