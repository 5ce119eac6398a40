"""Settings of bodies and of memory. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ppo_and_friends.errors import UserError

Activation = Literal["tanh", "relu", "leaky_relu", "elu", "silu", "gelu"]
Custom = str | Callable[..., Any]  # "path/to/file.py:Name", "package.module:Name", or the callable itself


@dataclass(frozen=True)
class BodyConfig:
    """Layers between an observation and the heads."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the fully connected layers; empty for none."""
    convolutions: tuple[tuple[int, int, int], ...] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    """(channels, kernel, stride) of each convolution, for observations of two (1-d) or three (2-d) axes."""
    residual: tuple[int, ...] = ()
    """Channels of each section of a residual network (arXiv:1802.01561: 16 32 32) in the place of the convolutions, for
    observations of three axes."""
    split: str = ""
    """Parts of a vector that have layers of their own before they are joined: "27" (columns before the 27th, and the
    rest), "0:27,27:60" (slices), "joints,feet" (entries of a Dict, and the rest), "each" (every entry of a Dict)."""
    split_hidden: tuple[int, ...] = (64,)
    """Widths of those layers."""
    activation: Activation = "tanh"
    custom: Custom = ""
    """A body of your own, FILE.py:NAME or a callable: called with (specs, config), returns a module whose
    forward takes the observation's tensors and which has an attribute `features`, the width of its output."""

    def __post_init__(self) -> None:
        sizes = (
            *self.hidden,
            *self.split_hidden,
            *self.residual,
            *(number for layer in self.convolutions for number in layer),
        )
        if min(sizes, default=1) < 1:
            raise UserError(f"net is of sizes {sizes}, but must be made of layers of 1 or more.")


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
