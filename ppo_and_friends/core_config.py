"""Settings of memory. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ppo_and_friends.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """What a network remembers from step to step, and how that is learned; without effect where `core` is identity."""

    core: Literal["identity", "gru", "lstm"] = "identity"
    """Memory between body and heads: none, gated recurrent units (arXiv:1406.1078), or long short-term memory
    (Hochreiter and Schmidhuber, 1997)."""
    core_size: int = 64
    """Units of each of its layers."""
    core_layers: int = 1
    core_place: Literal["after", "before"] = "after"
    """after: body, then memory, then heads. before: memory sees the normalised observation, the body what it gives."""
    critic_core: Literal["same", "identity"] = "same"
    """same: the critic has a memory of its own like the actor's (with net.shared, the actor's). identity: none."""
    reset_state_on_done: bool = True
    """Forget where an episode begins; otherwise memory outlives episodes, as learning over several tries needs."""
    chunk_length: int = 16
    """Steps through which gradients go back: a rollout is learned from in chunks of so many steps, each from the state
    that acting had there. Divides the steps of each row in a rollout."""
    burn_in: int = 0
    """The first so many steps of each chunk are not learned from, but renew the state with the present weights for the
    others (R2D2, Kapturowski et al., 2019): no loss is taken of them, and no gradient goes back into them."""

    def __post_init__(self) -> None:
        for name in ("core_size", "core_layers", "chunk_length"):
            if getattr(self, name) < 1:
                raise UserError(f"net.{name} is {getattr(self, name)}, but must be 1 or more.")
        if not 0 <= self.burn_in < self.chunk_length:
            raise UserError(
                f"net.burn_in is {self.burn_in}, but must be 0 or more and less than net.chunk_length "
                f"({self.chunk_length}): the other steps of a chunk are learned from."
            )

    @property
    def length(self) -> int:
        """L, steps of a chunk: 1 without memory, where every sample stands for itself."""
        return 1 if self.core == "identity" else self.chunk_length

    @property
    def warm_up(self) -> int:
        """Steps of a chunk that are not learned from."""
        return 0 if self.core == "identity" else self.burn_in

    def check_horizon(self, steps: int, minibatches: int, rows: int) -> None:
        """Raise UserError where rollouts of `steps` steps of `rows` rows give no chunks for so many minibatches."""
        if self.length > steps:
            raise UserError(
                f"net.chunk_length is {self.length}, but a rollout has only {steps} steps of each row: lower it, or "
                "raise ppo.steps_total or ppo.steps_per_row."
            )
        if steps % self.length:
            raise UserError(
                f"net.chunk_length is {self.length}, which does not divide the {steps} steps of each row in a rollout: "
                f"set ppo.steps_per_row to {steps - steps % self.length}, or another chunk length."
            )
        chunks = steps // self.length * rows
        if self.length > 1 and minibatches > chunks:
            raise UserError(
                f"ppo.minibatches is {minibatches}, but a rollout has only {chunks} chunks of {self.length} steps: ask "
                "for fewer minibatches, or for shorter chunks (net.chunk_length)."
            )
