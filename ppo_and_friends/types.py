"""What flows between the rooms. T = horizon, N = rows (environments x agents of one group on this rank).

A *tree* is one tensor, or a tuple of tensors where an observation has several parts (a Dict space with
images: one part for the vectors and one for each image, each with a network body of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Tree = Tensor | tuple[Tensor, ...]

CONTINUES = "episode_continues"  # in Step.log: 1 where a row was cut for the learner, but not reset: no end for scores


def tree_map(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to each tensor of `tree` (and to those of `others` beside it)."""
    if isinstance(tree, tuple):
        return tuple(function(*parts) for parts in zip(tree, *others, strict=True))
    return function(tree, *others)


def leaves(tree: Tree) -> tuple[Tensor, ...]:
    """The tensors of a tree, in order."""
    return tree if isinstance(tree, tuple) else (tree,)


def as_tree(parts: Sequence[Tensor]) -> Tree:
    """The tree that has these leaves."""
    first, *others = parts
    return (first, *others) if others else first


@dataclass(frozen=True)
class TensorSpec:
    """Shape (without rows) and dtype of one part of an observation.

    `fields` names the columns of a flattened Dict or Tuple: (key, first column, one past the last)."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    name: str = "observation"
    fields: tuple[tuple[str, int, int], ...] = ()

    def key_of(self, column: int) -> str:
        """The name of the entry that flattened `column` belongs to."""
        return next((key for key, first, end in self.fields if first <= column < end), self.name)


@dataclass(frozen=True)
class ActionSpace:
    """What an actor may do. Action tensors are `[N, columns]`: int64 for the first three kinds, float32 for a box.

    kind            sizes                        columns   low, high
    discrete        (K,)                         1         ()
    multi_discrete  one K for each column        len       ()
    multi_binary    (2, 2, ...)                  len       ()
    box             ()                           flat size per column, infinite where unbounded
    """

    kind: Literal["discrete", "multi_discrete", "multi_binary", "box"]
    sizes: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def columns(self) -> int:
        return len(self.low) if self.kind == "box" else len(self.sizes)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.kind == "box" else torch.int64


@dataclass(frozen=True)
class Views:
    """Other sights of the same situation, in which the same actions mean the same and earn the same.

    copies  K
    of      the actor's observation, a tree of `[B, ...]`, to K views of it `[K, B, ...]`, the first as it was given
    """

    copies: int
    of: Callable[[Tree], Tree]


@dataclass(frozen=True)
class Mirror:
    """Left and right exchanged: column i of what is mirrored is signs[i] times column order[i] of what was."""

    observation: tuple[int, ...]
    observation_signs: tuple[float, ...]
    action: tuple[int, ...]
    action_signs: tuple[float, ...]


@dataclass(frozen=True)
class GroupSpec:
    """One group of rows that share spaces and a policy."""

    rows: int
    actor: tuple[TensorSpec, ...]  # one entry for each tensor of Obs.actor
    critic: tuple[TensorSpec, ...]
    action: ActionSpace
    mask: int = 0  # K, the number of legal-action flags; 0 when the environment has none
    name: str = "agents"
    learns: bool = True
    symmetric: bool = True  # Obs.critic is the same object as Obs.actor
    logs: tuple[str, ...] = ()  # entries that Step.log has in every step; training reports them too
    counts: tuple[str, ...] = ()  # those of them that are summed over a rollout rather than averaged
    views: Views | None = None  # of environments that can show the same in several ways
    mirror: Mirror | None = None  # of robots whose left and right are alike
    agents: tuple[str, ...] = ("agent",)  # of one environment: row r is agent r % K of environment r // K

    @property
    def environments(self) -> int:
        return self.rows // len(self.agents)


@dataclass(frozen=True)
class Spec:
    """What a VecEnv says of itself before its first step."""

    groups: tuple[GroupSpec, ...]
    task: str  # for the first line a user sees: "CartPole-v1", "Ant (Gymnasium v5 semantics)"
    engine: str  # "gymnasium in process", "mujoco.batch, 2 threads"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    steps_per_second: float = 30.0  # its own pace, at which pictures of it should move
    recordable: bool = False  # a step only launches work on the device: it never waits for it, Python decides nothing
    # in it, all that changes is written in place, and no number that it gives is other than finite


class Obs(NamedTuple):
    """One observation of every row.

    actor   tree of [N, *Da]  uint8 or float
    critic  tree of [N, *Dc]  the same object as actor when symmetric
    mask    [N, K] bool       legal actions, [N, 0] when the environment has none
    """

    actor: Tree
    critic: Tree
    mask: Tensor

    def map(self, function: Callable[..., Tensor], *others: Obs) -> Obs:
        """Apply `function` to each tensor (and to those of `others` beside it), once to what actor and critic share."""
        actor = tree_map(function, self.actor, *(other.actor for other in others))
        shared = self.critic is self.actor
        critic = actor if shared else tree_map(function, self.critic, *(other.critic for other in others))
        return Obs(actor, critic, function(self.mask, *(other.mask for other in others)))


class Step(NamedTuple):
    """One vector step of one group. Rows that ended were reset inside the environment.

    obs         what the actor sees next (after the reset where cut)
    final       what the action led to (before the reset); equals obs where not cut
    reward      [N] float32, as the environment gave it
    terminated  [N] bool, a true end: no bootstrap. Wins when both are set
    truncated   [N] bool, cut without a true end: bootstrap V(final)
    active      [N] bool, False for dead or absent agents and filler rows: weight 0 everywhere. Where an environment
                of several agents ends, all its rows are terminated or truncated, whether active or not
    log         [N] float32 each, named extras such as is_success

    Tensors are valid until the next call of step: whoever keeps one copies it.
    """

    obs: Obs
    final: Obs
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    active: Tensor
    log: dict[str, Tensor]
