"""What one rollout holds: facts first (`Rollout`), then what was computed from them (`Targets`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ppo_and_friends.types import Obs, Tree, tree_map


@dataclass(frozen=True)
class Rollout:
    """What environment and actor produced in T steps of N rows. Nothing here is an opinion.

    obs           [T+1, N, ...]  row 0 is where the last rollout ended
    final         [T, N, ...]    what each action led to, before any reset; or, with `final_index`, only the
                                 cut rows [K, ...], in that order (images are not stored twice)
    final_index   [K]            t * N + row of each entry of `final`, or None when it is dense
    actions       [T, N, columns]
    log_probs     [T, N]
    parameters    [T, N, P]      of the acting distribution
    rewards       [T, N]         as add-ons have transformed them; `raw_rewards` stays as the environment gave it
    terminated, truncated, active  [T, N] bool
    first         [T+1, N] bool  this row starts an episode
    age           [T, N]         steps since the episode began
    actor_states  [C, N, S]      the actor core's state before each chunk
    restarted                    every row was reset before this rollout, whether its episode had ended or not
    logs          [T, K, N]      what GroupSpec.logs names, then what add-ons have appended
    continues     [T, N]         1 where an end is none for the score, NaN where nothing was said; or None
    """

    obs: Obs
    final: Obs
    final_index: Tensor | None
    actions: Tensor
    log_probs: Tensor
    parameters: Tensor
    rewards: Tensor
    raw_rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    active: Tensor
    first: Tensor
    age: Tensor
    actor_states: Tensor
    restarted: bool
    logs: Tensor
    continues: Tensor | None

    @property
    def ended(self) -> Tensor:
        """[T, N] bool: an episode ended here (a cut that the environment goes on from is not an end)."""
        ended = self.terminated | self.truncated
        return ended if self.continues is None else ended & (self.continues != 1)

    @property
    def reached(self) -> Tree:
        """[T, N, ...] what the actor would have seen after each action, before any reset."""
        if self.final_index is None:
            return self.final.actor
        index = self.final_index

        def joined(observed: Tensor, final: Tensor) -> Tensor:
            # Where nothing was cut, the next row is what the action led to. Contiguous, so that to flatten is no copy.
            following = observed[1:].clone(memory_format=torch.contiguous_format)
            following.flatten(0, 1).index_copy_(0, index, final)
            return following

        return tree_map(joined, self.obs.actor, self.final.actor)


@dataclass(frozen=True)
class Targets:
    """What the critic makes of a rollout. Values and returns are in the environment's (scaled) units.

    values         [T, N]     of each observation
    advantages     [T, N]     not yet normalised
    returns        [T, N]     advantages + values, the critic's aim
    weights        [T, N]     1 where the sample counts, 0 for inactive rows
    critic_states  [C, N, S]  the critic core's state before each chunk
    critic_carry   [N, S]     its state after the last step, where the next rollout goes on
    outputs        [T, N]     the critic's own numbers, normalised as it was when it gave them
    extras         [T, N, ...] each, what losses of add-ons ask for
    """

    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    critic_states: Tensor
    critic_carry: Tensor
    outputs: Tensor
    extras: tuple[Tensor, ...] = ()
